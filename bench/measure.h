/* What measurements of two processes share: each run is a process of its own, which forks the other end. */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline void need(bool fine, const char *what)
{
    if (fine)
        return;
    perror(what);
    exit(1);
}

/* Memory that stays the same one over fork. */
static inline void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(memory != MAP_FAILED, "mmap");
    return memory;
}

/* Processor seconds that a process has used, in it and in the kernel for it; 0: this one. Unlike the time that passes
 * they are nearly the same on a busy machine. */
static inline double cpu_seconds(pid_t process)
{
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec t;
    need((process == 0 || clock_getcpuclockid(process, &clock) == 0) && clock_gettime(clock, &t) == 0,
         "the clock of a process");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* fork; the child ends with its parent. */
static inline pid_t fork_child(void)
{
    fflush(stdout);
    pid_t child = fork();
    need(child >= 0, "fork");
    if (child == 0)
        need(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "prctl");
    return child;
}

/* Calls job in a process of its own, which has never had a connection. What it is to bring back goes to shared
 * memory. */
static inline void in_a_process(void (*job)(void *argument), void *argument)
{
    pid_t child = fork_child();
    if (child == 0) {
        job(argument);
        fflush(stdout);
        _exit(0);
    }
    int status;
    need(waitpid(child, &status, 0) == child, "waitpid");
    if (status != 0)
        exit(1); /* it has said why */
}

static inline int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts values; share 0.5 is the median. */
static inline double percentile(double *values, size_t count, double share)
{
    qsort(values, count, sizeof *values, compare_doubles);
    double at = share * (double)(count - 1);
    size_t below = (size_t)at;
    size_t above = below + 1 < count ? below + 1 : below;
    return values[below] + (at - (double)below) * (values[above] - values[below]);
}

static inline double median_of(const double *values, size_t count)
{
    double *sorted = malloc(count * sizeof *sorted);
    need(sorted != NULL, "malloc");
    memcpy(sorted, values, count * sizeof *sorted);
    double median = percentile(sorted, count, 0.5);
    free(sorted);
    return median;
}

/* ,"name":[1.00,2.00] */
static inline void print_runs(const char *name, const double *values, size_t count)
{
    printf(",\"%s\":[", name);
    for (size_t i = 0; i < count; i++)
        printf("%s%.2f", i == 0 ? "" : ",", values[i]);
    printf("]");
}

enum { MAX_RUNS = 101 };

typedef struct measure_options {
    double seconds; /* of one run */
    unsigned runs;
    unsigned connections; /* 0: the program has no such option */
    /* The parts that can be asked for by name, NULL behind the last; NULL: there are none. */
    const char *const *parts;
    char **wanted; /* out: the names, NULL behind the last; none: all parts */
} measure_options;

static inline void usage(FILE *to, const char *what, const measure_options *defaults)
{
    fprintf(to, "%s\n\n", what);
    for (const char *const *part = defaults->parts; part != NULL && *part != NULL; part++)
        fprintf(to, "%s%s", part == defaults->parts ? "Parts, if not all are wanted: " : " ", *part);
    fprintf(to,
            "%s"
            "  --seconds S      length of one run, 0.1 to 60 (%g)\n"
            "  --runs N         runs of each, of which the medians are printed, 1 to %d (%u)\n",
            defaults->parts != NULL ? "\n\n" : "", defaults->seconds, MAX_RUNS, defaults->runs);
    if (defaults->connections != 0)
        fprintf(to, "  --connections N  most idle connections, 1 to 10000 (%u)\n", defaults->connections);
    fprintf(to, "  --help\n\nExit codes: 0, 1 a measurement failed, 2 wrong arguments\n");
}

static inline bool number(const char *text, double least, double most, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= least && *out <= most;
}

static inline bool is_wanted(const measure_options *options, const char *part)
{
    char **name = options->wanted;
    while (*name != NULL && strcmp(*name, part) != 0)
        name++;
    return options->wanted[0] == NULL || *name != NULL;
}

static inline bool is_part(const measure_options *options, const char *name)
{
    const char *const *part = options->parts;
    while (part != NULL && *part != NULL && strcmp(*part, name) != 0)
        part++;
    return part != NULL && *part != NULL;
}

/* options has the defaults. Exits on --help and on wrong arguments. */
static inline void parse_options(measure_options *options, int argc, char **argv, const char *what)
{
    static const struct option names[] = {{"seconds", required_argument, NULL, 's'},
                                          {"runs", required_argument, NULL, 'r'},
                                          {"connections", required_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const measure_options defaults = *options;
    bool fine = true;
    double value;
    for (int c; fine && (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout, what, &defaults);
            exit(0);
        } else if (c == 's' && number(optarg, 0.1, 60, &value)) {
            options->seconds = value;
        } else if (c == 'r' && number(optarg, 1, MAX_RUNS, &value)) {
            options->runs = (unsigned)value;
        } else if (c == 'c' && defaults.connections != 0 && number(optarg, 1, 10000, &value)) {
            options->connections = (unsigned)value;
        } else {
            fine = false;
        }
    }
    options->wanted = argv + optind;
    for (int i = optind; i < argc; i++)
        fine = fine && is_part(options, argv[i]);
    if (!fine) {
        usage(stderr, what, &defaults);
        exit(2);
    }
}

#endif
