/* cli/process.h: what the system is asked to do for this process: a sound ground to stand on, one
 * processor, locked memory.
 *
 * May include: common. */
#ifndef LLORCH_CLI_PROCESS_H
#define LLORCH_CLI_PROCESS_H

#include "common/error.h"

enum { PROCESS_CPU_NAME_BYTES = 128 };

/* To be called first: whatever the parent left, 0 to 2 are open, no signal is blocked, a reader
 * that went away and a file that grew too large are errors of a write, and there is stack enough.
 * Errors: ERR_LIMIT. */
ErrCode process_prepare(Err *err) ERR_CHECK;

/* For the daemon, until the worker catches these two itself: SIGTERM and SIGINT end the process
 * with status 0 at once. */
void process_leave_on_signals(void);

/* --cpu: the process's one thread runs on this processor only; memory that is touched afterwards
 * lies near it. Errors: ERR_USAGE, with the processors that the process may use. */
ErrCode process_pin(int cpu, Err *err) ERR_CHECK;

/* "AMD EPYC", or "unknown": the processor's name as the system has it. */
void process_cpu_name(char out[PROCESS_CPU_NAME_BYTES]);

/* --mlock: everything that the process has mapped by now is brought into memory and never written
 * to swap, nor dropped where it is a file's. To be called when all weights and buffers are there:
 * what comes later, such as the bodies of requests, is ordinary memory, so that it cannot fail by
 * the limit. Errors: ERR_MEMORY, with the limit and what to do about it. */
ErrCode process_lock_memory(Err *err) ERR_CHECK;

#endif
