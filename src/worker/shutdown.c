/* worker/shutdown.c: libevent's signal handlers write to a pipe of the loop; everything here runs
 * as a callback.
 *
 * May include: common, http. */
#include "worker/shutdown.h"

#include <signal.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "http/server.h"
#include "worker/runner.h"
#include "worker/service_manager.h"

static const char *signal_name(int number)
{
    return number == SIGINT ? "SIGINT" : "SIGTERM";
}

static void on_signal(evutil_socket_t number, short what, void *ctx)
{
    Worker *w = ctx;

    (void)what;
    w->n_signals++;
    if (w->n_signals > 1) {
        log_line(LOG_WARN, "Second signal, leaving at once", "s:signal", signal_name((int)number),
                 NULL);
        w->exit_now = true;
        w->exit_code = 1;
    } else {
        shutdown_ask(w, signal_name((int)number));
    }
}

/* A terminal or a pipe that goes away must not take a daemon with it, nor a terminal that is
 * another job's (SIGTTOU), a log file as large as it may get (SIGXFSZ), or a signal that only means
 * something to other programs. SIGCHLD: as process 1 of a container it inherits children, which
 * nobody else would remove. */
ErrCode shutdown_ignore_signals(Err *err)
{
    static const int ignored[] = {SIGHUP,  SIGPIPE, SIGTTOU, SIGXFSZ,
                                  SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD};
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        if (sigaction(ignored[i], &action, NULL) != 0)
            return err_set(err, ERR_INTERNAL, "Server runtime error: cannot ignore signal %d",
                           ignored[i]);
    return ERR_OK;
}

ErrCode shutdown_catch_signals(Worker *w, Err *err)
{
    w->sigterm = evsignal_new(w->base, SIGTERM, on_signal, w);
    w->sigint = evsignal_new(w->base, SIGINT, on_signal, w);
    if (w->sigterm == NULL || w->sigint == NULL || event_add(w->sigterm, NULL) != 0 ||
        event_add(w->sigint, NULL) != 0)
        return err_set(err, ERR_INTERNAL, "Server runtime error: cannot install signal handlers");
    return ERR_OK;
}

void shutdown_free_signals(Worker *w)
{
    sigset_t both;

    (void)sigemptyset(&both);
    (void)sigaddset(&both, SIGTERM);
    (void)sigaddset(&both, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &both, NULL);
    if (w->sigterm != NULL)
        event_free(w->sigterm);
    if (w->sigint != NULL)
        event_free(w->sigint);
}

/* Takes no new jobs, ends the waiting ones. Again: no effect. */
static void drain(Worker *w, const char *why)
{
    if (w->phase == WORKER_DRAINING)
        return;
    log_line(LOG_INFO, "Shutting down", "s:reason", why, "i:waiting_jobs",
             (long long)w->jobs.n_waiting, "b:job_running", w->jobs.running != NULL, NULL);
    w->phase = WORKER_DRAINING;
    w->drain_ms = clock_now_ms();
    http_server_end_connections(w->server);
    callback_free(w->callback);
    w->callback = NULL;
    while (w->jobs.first != NULL)
        runner_drop_waiting(w, w->jobs.first, JOB_SHUTDOWN);
    if (w->options->managed.listen_fd > 0)
        http_server_stop_accepting(w->server); /* who comes now waits for the next worker */
    worker_arm_tick(w);
    service_manager_update(w);
}

void shutdown_ask(Worker *w, const char *why)
{
    if (w->phase != WORKER_STARTING) {
        drain(w, why);
    } else if (!w->exit_now) {
        log_line(LOG_INFO, "Stopped while loading", "s:reason", why, NULL);
        http_server_end_connections(w->server);
        w->exit_now = true;
    }
}

void shutdown_fail(Worker *w, const char *why)
{
    w->exit_code = 1;
    drain(w, why);
    service_manager_failed(w, why);
    w->drain_ms = clock_now_ms() - SHUTDOWN_CANCEL_MS;
    shutdown_tick(w);
}

void shutdown_tick(Worker *w)
{
    const uint64_t now = clock_now_ms();

    if (w->phase != WORKER_DRAINING || now - w->drain_ms < SHUTDOWN_CANCEL_MS)
        return;
    if (w->cancel_ms == 0)
        w->cancel_ms = now;
    if (w->jobs.running != NULL)
        job_stop(w->jobs.running, JOB_SHUTDOWN);
}

/* One look is bounded, see worker_service, and need not get as far as the request of a connection
 * that it took in. */
bool shutdown_all_answered(Worker *w, uint64_t end_ms)
{
    /* A balancer gives its next request to who is idle and answers fast. While this worker accepts,
     * the requests that it refuses come back until all their tries are used up. */
    http_server_accept_rest(w->server);
    if (http_server_has_pending(w->server))
        return false;
    while (w->n_signals < 2 && !worker_service(w) && clock_now_ms() < end_ms)
        ;
    return !http_server_has_pending(w->server);
}

bool shutdown_complete(Worker *w)
{
    const uint64_t now = clock_now_ms();

    if (w->phase != WORKER_DRAINING)
        return false;
    /* From the cancel on, so that a process that slept through all of it (SIGSTOP, a laptop) still
     * says how its job ended. */
    if (w->cancel_ms != 0 && now - w->cancel_ms >= SHUTDOWN_FLUSH_MS) {
        if (w->jobs.n_jobs > 0 || http_server_has_pending(w->server))
            log_line(LOG_WARN, "Shutdown error: clients had unread data at the deadline", NULL);
        return true;
    }
    return w->jobs.n_jobs == 0 &&
           shutdown_all_answered(w, (w->cancel_ms != 0 ? w->cancel_ms : now) + SHUTDOWN_FLUSH_MS);
}
