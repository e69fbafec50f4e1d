/* worker/model_api.c: see model_api.h.
 *
 * May include: common, http, backend, compat. */
#include "worker/model_api.h"

#include <string.h>

#include "backend/backend.h"
#include "common/clock.h"
#include "compat/models.h"
#include "compat/tokenize.h"
#include "worker/answer.h"

/* 503 while there is no model to ask about. */
static bool is_loading(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    const ApiError e = {.status = 503, .message = "the model is still loading"};

    if (w->backend != NULL)
        return false;
    answer_error(conn, request->path, &e, "Retry-After: 1\r\n", true);
    return true;
}

void models_get(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    /* The start of this process: the files may be as old as they like. */
    const int64_t created = clock_unix_sec() - (int64_t)((clock_now_ms() - w->start_ms) / 1000);
    const size_t n_prefix = sizeof MODEL_API_ONE - 1;
    JsonBuf answer = {0};
    int status = 200;

    if (is_loading(w, conn, request))
        return;
    if (strncmp(request->path, MODEL_API_ONE, n_prefix) == 0)
        status = models_one(&answer, w->backend->ops->info(w->backend), created,
                            request->path + n_prefix);
    else
        models_list(&answer, w->backend->ops->info(w->backend), created);
    answer_json(conn, request->path, status, NULL, &answer);
}

void tokenize_post(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    if (is_loading(w, conn, request))
        return;
    const int status = tokenize_answer(request->body, request->n_body, w->backend, &answer);
    answer_json(conn, request->path, status, NULL, &answer);
}

void detokenize_post(Worker *w, HttpConn *conn, const HttpRequest *request)
{
    JsonBuf answer = {0};

    if (is_loading(w, conn, request))
        return;
    const int status = detokenize_answer(request->body, request->n_body, w->backend, &answer);
    answer_json(conn, request->path, status, NULL, &answer);
}
