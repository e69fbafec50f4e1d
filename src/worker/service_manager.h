/* worker/service_manager.h: what a service manager such as systemd is told (sd_notify(3)): ready,
 * stopping, a line of status, more time while the model loads, and signs of life.
 *
 * A sign of life (WATCHDOG=1) comes out of the loop, so it stops when the loop does. Nothing here
 * waits, and nothing that fails here changes what the worker does: what could not be sent is tried
 * again a second later.
 *
 * May include: common. */
#ifndef LLORCH_WORKER_SERVICE_MANAGER_H
#define LLORCH_WORKER_SERVICE_MANAGER_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/notify_socket.h"

enum {
    MANAGER_STATUS_MS = 1000,  /* between two lines of status, and after a failure */
    MANAGER_EXTEND_MS = 60000, /* what the start may take from each sign of progress on */
    MANAGER_STATUS_BYTES = 400,
    MANAGER_MAX_BEAT_MS = 3600000
};

typedef struct {
    NotifySocket socket; /* fd must be -1 at first */
    struct event *timer; /* for the next thing that is due; NULL: nobody to tell */
    uint64_t beat_ms;    /* between two signs of life; 0: none are awaited */
    uint64_t last_beat_ms, last_status_ms;
    uint64_t not_before_ms; /* something could not be sent */
    bool told_ready, told_stopping, warned;
    double told_progress;
    char told_status[MANAGER_STATUS_BYTES];
    char failure[MANAGER_STATUS_BYTES]; /* why the worker ends; "": it does not, or not so */
} ServiceManager;

struct Worker;

/* Half of what WATCHDOG_USEC says, in milliseconds. Errors: ERR_USAGE. */
ErrCode service_manager_parse_watchdog(uint64_t *beat_ms, const char *usec, Err *err) ERR_CHECK;

/* To be called once the loop is there. A NOTIFY_SOCKET or WATCHDOG_USEC that cannot be is told in
 * the log and not used. Errors: ERR_MEMORY. */
ErrCode service_manager_open(struct Worker *w, Err *err) ERR_CHECK;

/* Tells what there is to tell by now. Called when the worker's phase changes, every tick, and by
 * its own timer. */
void service_manager_update(struct Worker *w);

/* The worker ends because of this: the last line of status. */
void service_manager_failed(struct Worker *w, const char *why);

void service_manager_close(struct Worker *w);

#endif
