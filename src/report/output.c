/* report/output.c: see output.h.
 *
 * May include: common. */
#include "report/output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/new_file.h"

/* /dev/stdout, a pipe: renaming would put a plain file in its place. */
static bool is_special(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static ErrCode write_special(const char *path, const JsonBuf *text, Err *err)
{
    NewFile f = {.fd = open(path, O_WRONLY | O_CLOEXEC)};

    if (f.fd < 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    (void)new_file_write(&f, text->data, text->len);
    if (close(f.fd) != 0 && f.failure == 0)
        f.failure = errno;
    if (f.failure != 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(f.failure));
    return ERR_OK;
}

ErrCode report_write(const char *path, const JsonBuf *text, Err *err)
{
    NewFile f;

    if (text->oom)
        return err_set(err, ERR_MEMORY, "%s: out of memory", path);
    if (is_special(path))
        return write_special(path, text, err);
    const ErrCode code = new_file_open(&f, path, err);
    if (code != ERR_OK)
        return code;
    (void)new_file_write(&f, text->data, text->len);
    return new_file_commit(&f, err);
}
