#include "workers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX 64
#define TWICE_EVERY 50

static void report(const sim_work *work, uint64_t seed, const char *why)
{
    fprintf(stderr, "seed %llu: %s\n  again: SIM_TRACE=1 SIM_LOG=1 %s 1 %llu\n", (unsigned long long)seed,
            why, work->program, (unsigned long long)seed);
}

static sim_result *at(const sim_work *work, void *results, uint64_t i)
{
    return (sim_result *)(void *)((uint8_t *)results + i * work->result_size);
}

static void run_checked(const sim_work *work, sim_result *result, void *again, uint64_t seed)
{
    work->run(result, seed, work->count == 1);
    if (seed % TWICE_EVERY != 0)
        return;
    memset(again, 0, work->result_size);
    work->run(again, seed, false);
    if (((sim_result *)again)->trace != result->trace)
        result->why = "the same seed gave another trace";
}

/* One of `workers` processes: every workers-th seed. */
static void run_share(const sim_work *work, void *results, unsigned worker, unsigned workers)
{
    bool progress = worker == 0 && work->count >= 50000;
    void *again = malloc(work->result_size);
    if (again == NULL)
        abort();
    for (uint64_t i = worker; i < work->count; i += workers) {
        sim_result *result = at(work, results, i);
        run_checked(work, result, again, work->first + i);
        result->done = true;
        if (result->why != NULL)
            report(work, work->first + i, result->why);
        if (progress && i / workers % 1000 == 0)
            fprintf(stderr, "\r%llu of %llu ", (unsigned long long)i, (unsigned long long)work->count);
    }
    if (progress)
        fprintf(stderr, "\n");
    free(again);
    if (work->clear != NULL)
        work->clear();
}

unsigned sim_work_all(const sim_work *work, void **results)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned workers = processors > WORKERS_MAX ? WORKERS_MAX : processors < 1 ? 1 : (unsigned)processors;
    workers = work->count < 10 ? 1 : workers;
    unsigned failures = 0;
    *results = mmap(NULL, (work->count + 1) * work->result_size, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (*results == MAP_FAILED)
        exit(EXIT_FAILURE);
    fflush(stdout);
    for (unsigned i = 0; i < workers; i++) {
        pid_t child = fork();
        if (child < 0)
            exit(EXIT_FAILURE);
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL); /* ends with the program */
            run_share(work, *results, i, workers);
            exit(EXIT_SUCCESS); /* looks for leaks, too */
        }
    }
    for (int status = 0; wait(&status) > 0;)
        failures += status != 0;
    for (uint64_t i = 0; i < work->count; i++) {
        failures += at(work, *results, i)->why != NULL;
        if (!at(work, *results, i)->done && (i < workers || at(work, *results, i - workers)->done))
            report(work, work->first + i, "crashed"); /* what its process did last */
    }
    return failures;
}
