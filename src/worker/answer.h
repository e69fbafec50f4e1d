/* worker/answer.h: whole answers, JSON, each error in the shape of the API whose path was asked
 * (contract 8).
 *
 * May include: common, http, compat. */
#ifndef LLORCH_WORKER_ANSWER_H
#define LLORCH_WORKER_ANSWER_H

#include "common/json.h"
#include "compat/api_error.h"
#include "http/server.h"

/* Whether OpenAI's clients ask there. */
bool answer_is_openai(const char *path);

/* Appends the body of an error on this path; retriable is told by the worker's own shape only. */
void answer_error_body(JsonBuf *out, const char *path, const ApiError *e, bool retriable);

/* Sends body and empties it. headers: NULL or lines "Name: value\r\n". What could not be written
 * for want of memory becomes a 500. */
void answer_json(HttpConn *conn, const char *path, int status, const char *headers, JsonBuf *body);

void answer_error(HttpConn *conn, const char *path, const ApiError *e, const char *headers,
                  bool retriable);

/* The common case: nothing but a status and a message, and not to be tried again. */
void answer_refusal(HttpConn *conn, const char *path, int status, const char *message);

/* 415, false, unless the body is said to be JSON, and nothing else. */
bool answer_check_content(HttpConn *conn, const HttpRequest *request);

#endif
