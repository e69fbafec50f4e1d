/* common/mapped_file.c: opening and mapping a regular file, and what to say when it shrinks under
 * us.
 *
 * May include: nothing. */
#include "common/mapped_file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/text.h"

enum { MAPPED_SLOTS = 64, MAPPED_NAME_BYTES = 256, MAPPED_HUGE_BYTES = 2 * 1024 * 1024 };

/* The mappings that are open. Mutable and global because a signal handler gets nothing but the
 * faulting address, and the line it writes must name the file. A mapping beyond the last slot works
 * as well; it is only not named. */
static struct {
    const unsigned char *data; /* NULL: free */
    size_t size; /* rounded up to whole pages: the fault may lie behind the file's last byte */
    char name[MAPPED_NAME_BYTES];
} slots[MAPPED_SLOTS];

static void remember(const MappedFile *f, const char *path)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (int i = 0; i < MAPPED_SLOTS; i++) {
        if (slots[i].data != NULL)
            continue;
        (void)text_escape(slots[i].name, sizeof slots[i].name, path, strlen(path));
        slots[i].size = (f->size + page - 1) / page * page;
        slots[i].data = f->data;
        return;
    }
}

static void forget(const unsigned char *data)
{
    for (int i = 0; i < MAPPED_SLOTS; i++)
        if (slots[i].data == data)
            slots[i].data = NULL;
}

/* The checks of an open descriptor; *size is its length. */
static ErrCode check_file(int fd, const char *path, size_t max_bytes, size_t *size, Err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s: is a directory, expected a regular file", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_IO, "%s: not a regular file", path);
    if (st.st_size <= 0)
        return err_set(err, ERR_FORMAT, "%s: the file is empty", path);
    if ((uintmax_t)st.st_size > SIZE_MAX / 2 ||
        (max_bytes != 0 && (uintmax_t)st.st_size > max_bytes))
        return err_set(err, ERR_LIMIT, "%s: %jd bytes, expected at most %zu", path,
                       (intmax_t)st.st_size, max_bytes != 0 ? max_bytes : SIZE_MAX / 2);
    *size = (size_t)st.st_size;
    return ERR_OK;
}

ErrCode mapped_file_open(MappedFile *f, const char *path, size_t max_bytes, Err *err)
{
    size_t size = 0;
    int fd;

    do
        /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));

    const ErrCode code = check_file(fd, path, max_bytes, &size, err);
    if (code != ERR_OK) {
        (void)close(fd);
        return code;
    }
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    const int map_errno = errno;
    (void)close(fd);
    if (data == MAP_FAILED)
        return err_set(err, ERR_IO, "%s: cannot map %zu bytes: %s", path, size,
                       strerror(map_errno));
    /* Refused where the file system has no large pages; then small pages do. */
    if (size >= MAPPED_HUGE_BYTES)
        (void)madvise(data, size, MADV_HUGEPAGE);
    *f = (MappedFile){data, size};
    remember(f, path);
    return ERR_OK;
}

bool mapped_file_is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

/* The address as the system calls want it; nothing writes through it. */
static void *writable(const unsigned char *data)
{
    void *p;

    memcpy(&p, &data, sizeof p);
    return p;
}

void mapped_file_close(MappedFile *f)
{
    if (f->data != NULL) {
        forget(f->data);
        (void)munmap(writable(f->data), f->size);
    }
    *f = (MappedFile){NULL, 0};
}

void mapped_file_drop(const unsigned char *data, size_t n)
{
    const size_t before = (uintptr_t)data % (uintptr_t)sysconf(_SC_PAGESIZE);

    if (n > 0)
        (void)madvise(writable(data - before), before + n, MADV_DONTNEED);
}

/* Async-signal-safe only: no stdio, no allocation; the name was escaped when the file was opened.
 */
static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    const uintptr_t at = (uintptr_t)info->si_addr;
    char message[MAPPED_NAME_BYTES + 80];
    static const char tail[] = ": the file became shorter while it was in use";

    (void)context;
    /* Not one of our files, or sent by somebody (whose number stands where the address would): the
     * default action, now or when the fault happens again. */
    (void)signal(sig, SIG_DFL);
    if (info->si_code <= 0) {
        (void)raise(sig);
        return;
    }
    for (int i = 0; i < MAPPED_SLOTS; i++) {
        const uintptr_t start = (uintptr_t)slots[i].data;

        if (start == 0 || at < start || at - start >= slots[i].size)
            continue;
        const size_t n = strlen(slots[i].name);
        memcpy(message, slots[i].name, n);
        memcpy(message + n, tail, sizeof tail);
        log_last_words(message);
        _exit(1);
    }
}

void mapped_file_guard(void)
{
    struct sigaction sa;

    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = on_sigbus;
    sa.sa_flags = SA_SIGINFO;
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGBUS, &sa, NULL);
}

static int starts_with(const unsigned char *data, size_t size, const char *magic, size_t n)
{
    return size >= n && memcmp(data, magic, n) == 0;
}

/* HTML, possibly behind white space: what a download link gives when it asks to log in first. */
static int looks_like_html(const unsigned char *data, size_t size)
{
    size_t i = 0;

    while (i < size && (data[i] == ' ' || (data[i] >= '\t' && data[i] <= '\r')))
        i++;
    const char *s = (const char *)data + i;
    const size_t n = size - i;
    return (n >= 5 && strncasecmp(s, "<html", 5) == 0) ||
           (n >= 9 && strncasecmp(s, "<!doctype", 9) == 0) ||
           (n >= 5 && strncasecmp(s, "<?xml", 5) == 0);
}

const char *mapped_file_kind(const unsigned char *data, size_t size)
{
    static const struct {
        const char *magic;
        size_t n;
        const char *kind;
    } known[] = {
        {"version https://git-lfs", 23, "a Git LFS pointer (the file itself was not downloaded)"},
        {"version https://hawser", 22, "a Git LFS pointer (the file itself was not downloaded)"},
        {"\x1f\x8b", 2, "a gzip archive"},
        {"PK\x03\x04", 4, "a zip archive (PyTorch's .bin and .pt files are)"},
        {"BZh", 3, "a bzip2 archive"},
        {"\xfd"
         "7zXZ",
         5, "an xz archive"},
        {"\x28\xb5\x2f\xfd", 4, "a zstd archive"},
        {"\x80\x02", 2, "a Python pickle"},
        {"\x80\x03", 2, "a Python pickle"},
        {"\x80\x04", 2, "a Python pickle"},
        {"\x80\x05", 2, "a Python pickle"},
        {"GGUF", 4, "a GGUF model"},
        {"FUGG", 4, "a big-endian GGUF model"},
        {"\x89HDF\r\n", 6, "an HDF5 file"},
        {"\x93NUMPY", 6, "a NumPy .npy file"},
    };

    /* First, because the length of a safetensors header can look like the first bytes of any of the
     * others. A length below 2^32, then the header. */
    if (size > 9 && data[4] == 0 && data[5] == 0 && data[6] == 0 && data[7] == 0 && data[8] == '{')
        return "a safetensors model";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (starts_with(data, size, known[i].magic, known[i].n))
            return known[i].kind;
    if (looks_like_html(data, size))
        return "an HTML or XML page";
    return NULL;
}
