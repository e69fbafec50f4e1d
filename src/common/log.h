/* common/log.h: one JSON object per line on standard error. Never blocks, never fails: a line that
 * cannot be written is dropped and counted.
 *
 * May include: common. */
#ifndef LLORCH_COMMON_LOG_H
#define LLORCH_COMMON_LOG_H

#include <stddef.h>

typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF } LogLevel;

/* Before this, lines are plain text ("llorch-cpud: warn: message (file x)"), as a sub-command
 * prints them; afterwards JSON. Lines below level are not written. worker_id (copied) is added to
 * every line unless NULL. Standard error, when it is a terminal or a pipe, is opened anew, so that
 * it can refuse to wait without anybody else noticing. */
void log_init(LogLevel level, const char *worker_id);

/* "debug", "info", "warn", "error", "off"; -1 for anything else. */
int log_level_parse(const char *name);

/* {"level":"info","time":"...Z","message":"...","worker_id":"...", <fields>}. The fields are pairs
 * of a key and a value, ended by NULL: "s:name", const char * -> string; "i:name", long long ->
 * integer; "f:name", double -> number; "b:name", int -> true or false. A NULL string leaves its
 * field out. Example: log_line(LOG_INFO, "Worker ready, starting HTTP server", "s:model", name,
 * "i:port", (long long)port, NULL); */
void log_line(LogLevel level, const char *message, ...) __attribute__((sentinel));

/* For a signal handler: the message of an error that ends the process, as one line of the kind in
 * use. Written at any level. Does nothing but fill a buffer on the stack, poll and write. */
void log_last_words(const char *message);

/* Lines lost because standard error was full or closed. Where warnings are
 * logged, the next line that can be written again is preceded by one with this number. */
unsigned long long log_dropped(void);

#endif
