/* common/model_name.h: what a model is called when nobody named it (base name of its directory,
 * stem of its file), and the folder it lies in.
 *
 * May include: nothing. */
#ifndef LLORCH_COMMON_MODEL_NAME_H
#define LLORCH_COMMON_MODEL_NAME_H

#include <stddef.h>

/* The name of the model at path, NUL-terminated; a longer one is cut to size - 1 bytes. Names are
 * taken as they are written, also those of links; "." and "x/.." are looked up first. A path that
 * does not exist counts as a directory's. A snapshot in the cache of Hugging Face's programs,
 * models--ORG--NAME/snapshots/COMMIT, is called NAME. */
void model_name_of(char *out, size_t size, const char *path);

/* The folder of a model: path itself when that is one, else the folder of the file; cut like the
 * name. */
void model_dir_of(char *out, size_t size, const char *path);

#endif
