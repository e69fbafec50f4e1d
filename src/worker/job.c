/* worker/job.c: a fixed number of slots, linked into a line and a list of free ones.
 *
 * May include: common. */
#include "worker/job.h"

#include <string.h>

bool job_queue_plan(size_t *total, int max_waiting)
{
    return arena_plan(total, (size_t)max_waiting + 1, sizeof(Job));
}

bool job_queue_init(JobQueue *q, Arena *arena, int max_waiting)
{
    Job *slots = arena_alloc(arena, (size_t)max_waiting + 1, sizeof(Job));

    *q = (JobQueue){.max_jobs = max_waiting + 1};
    if (slots == NULL)
        return false;
    for (int i = 0; i < q->max_jobs; i++) {
        slots[i].next = q->unused;
        q->unused = &slots[i];
    }
    return true;
}

bool job_queue_has_room(const JobQueue *q)
{
    return q->n_jobs < q->max_jobs;
}

static size_t counted(size_t n_body)
{
    return n_body > JOB_FREE_BYTES ? n_body - JOB_FREE_BYTES : 0;
}

bool job_queue_has_memory(const JobQueue *q, size_t n_body)
{
    return q->n_counted + counted(n_body) <= JOB_MAX_BODIES;
}

Job *job_queue_push(JobQueue *q, const JobApi *api, const Request *request, size_t n_body)
{
    Job *job = q->unused;

    q->unused = job->next;
    *job = (Job){.api = api, .request = *request, .n_counted = counted(n_body)};
    q->n_counted += job->n_counted;
    if (q->last != NULL)
        q->last->next = job;
    else
        q->first = job;
    q->last = job;
    q->n_waiting++;
    q->n_jobs++;
    return job;
}

/* Takes job out of the line. */
static void unlink_waiting(JobQueue *q, Job *job)
{
    Job *before = NULL;

    for (Job *j = q->first; j != job; j = j->next)
        before = j;
    if (before != NULL)
        before->next = job->next;
    else
        q->first = job->next;
    if (q->last == job)
        q->last = before;
    job->next = NULL;
    q->n_waiting--;
}

Job *job_queue_start(JobQueue *q)
{
    Job *job = q->first;

    unlink_waiting(q, job);
    q->running = job;
    return job;
}

void job_queue_remove(JobQueue *q, Job *job)
{
    if (q->running == job)
        q->running = NULL;
    else
        unlink_waiting(q, job);
    q->n_jobs--;
    q->n_counted -= job->n_counted;
    request_free(&job->request);
    completion_free(&job->completion);
    job->next = q->unused;
    q->unused = job;
}

void job_stop(Job *job, JobStop why)
{
    if (job->stop == JOB_GO_ON)
        job->stop = why;
}

double job_tokens_per_sec(const Job *job)
{
    return job->decode_ns == 0 ? 0 : (double)job->n_decoded * 1e9 / (double)job->decode_ns;
}

bool job_has_id(const Job *job, BackendText id)
{
    const BackendText own = job->request.job_id;

    return own.n_bytes == id.n_bytes && memcmp(own.text, id.text, id.n_bytes) == 0;
}
