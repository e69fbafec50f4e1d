/* pull/repository.h: a model from the hub to the cache: which files there are, whether this is a
 * GPT-2, whether the disk has room; then the files, their links, and last the reference.
 *
 * May include: common, pull. */
#ifndef LLORCH_PULL_REPOSITORY_H
#define LLORCH_PULL_REPOSITORY_H

#include <limits.h>

#include "common/error.h"
#include "pull/options.h"

/* *out: the snapshot's folder, or with --file the file in it. Errors: ERR_NETWORK, ERR_CANCELLED
 * and those of the parts; what is complete in the cache stays, and is not fetched again. */
ErrCode repository_pull(char out[PATH_MAX], const PullOptions *o, Err *err) ERR_CHECK;

#endif
