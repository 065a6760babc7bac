/* Many runs, each from its seed, on all processors. */
#ifndef TESTS_SIM_WORKERS_H
#define TESTS_SIM_WORKERS_H

#include <datapeer/base.h>

/* The head of each result. */
typedef struct sim_result {
    bool done;
    const char *why; /* NULL: as it should be */
    uint64_t trace;
} sim_result;

typedef struct sim_work {
    const char *program; /* argv[0]: for "again" */
    uint64_t count;
    uint64_t first;     /* seed */
    size_t result_size; /* of a struct that begins with a sim_result */
    /* One run; tell: it is the only one. */
    void (*run)(void *result, uint64_t seed, bool tell);
    void (*clear)(void); /* at a process's end; NULL: nothing to do */
} sim_work;

/* Runs of the seeds first, first + 1, ..., in as many processes as there are processors; each 50th twice, which has to
 * give one trace. Failures are told on stderr and counted. *results: count of them, by seed. */
unsigned sim_work_all(const sim_work *work, void **results);

#endif
