/* How long `datapeer get` takes from its start to the first byte of the file, on one machine: `datapeer serve`, its own
 * PeerServer, in one process, get in another. Then the same with get's log, by which the time is parted. One JSON object;
 * times are medians in milliseconds, but for p10 and p90. On a busy machine p10 tells
 * most, or all of them under chrt -f 5.
 *
 *   get [--runs N] */
#include "signal_server.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>

enum { RUNS_MAX = 1000, STAGES = 7 };

/* What get's log says at the end of each; the last ends with the first byte. The log itself takes time, too. */
static const struct {
    const char *name, *line;
} stages[STAGES] = {
    {"start", "connecting -> upgrading"}, /* the program, its certificate, TCP to the PeerServer */
    {"join", "joining -> open"},
    {"offer_answer", "ice: new -> checking"},
    {"ice", "ice: checking -> connected"},
    {"dtls", "dtls: connecting -> connected"},
    {"sctp", "channel 1: connecting -> open"},
    {"request", NULL},
};

static char datapeer[4096], folder[] = "/tmp/datapeer-bench-XXXXXX", server[64];

/* ---- the device ---------------------------------------------------------------------------------------- */

static pid_t start(char *const *argv, int *out, int *errors)
{
    int outs[2], errs[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    need(pipe2(outs, O_CLOEXEC) == 0 && pipe2(errs, O_CLOEXEC) == 0, "pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, outs[1], STDOUT_FILENO);
    if (errors != NULL)
        posix_spawn_file_actions_adddup2(&actions, errs[1], STDERR_FILENO);
    need(posix_spawn(&pid, datapeer, &actions, NULL, argv, environ) == 0, datapeer);
    posix_spawn_file_actions_destroy(&actions);
    close(outs[1]);
    close(errs[1]);
    *out = outs[0];
    if (errors != NULL)
        *errors = errs[0];
    else
        close(errs[0]);
    return pid;
}

static pid_t start_device(void)
{
    char *argv[] = {"datapeer",
                    "serve",
                    folder,
                    "--id",
                    "bench",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "0",
                    "--ephemeral",
                    "--connection-rate",
                    "0",
                    NULL};
    char text[4096];
    size_t len = 0;
    int out;
    pid_t pid = start(argv, &out, NULL);
    const char *link = NULL;
    while (link == NULL || strchr(link, '#') == NULL) {
        ssize_t n = read(out, text + len, sizeof(text) - 1 - len);
        need(n > 0, "datapeer serve");
        len += (size_t)n;
        text[len] = '\0';
        link = strstr(text, "open http://");
    }
    snprintf(server, sizeof(server), "ws://%.*s", (int)strcspn(link + 12, "#"), link + 12);
    return pid;
}

/* ---- get ------------------------------------------------------------------------------------------------ */

typedef struct run {
    double at[STAGES]; /* when each stage was over, ms after the start */
    double whole;      /* until get has ended */
    double cpu;        /* what get has used */
} run;

static double since(double begin) { return (wall() - begin) * 1000; }

/* Marks the stages whose lines are in text, which grows. */
static void mark(run *r, const char *text, double now)
{
    for (size_t i = 0; i < STAGES; i++)
        if (r->at[i] == 0 && stages[i].line != NULL && strstr(text, stages[i].line) != NULL)
            r->at[i] = now;
}

static void watch(run *r, double begin, int out, int errors)
{
    static char log[1 << 16];
    char bytes[4096];
    size_t len = 0;
    struct pollfd fds[2] = {{out, POLLIN, 0}, {errors, POLLIN, 0}};
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        need(poll(fds, 2, 10000) > 0, "get does not end");
        double now = since(begin);
        if (fds[0].fd >= 0 && fds[0].revents != 0) {
            if (read(out, bytes, sizeof(bytes)) <= 0)
                fds[0].fd = -1;
            else if (r->at[STAGES - 1] == 0)
                r->at[STAGES - 1] = now;
        }
        if (fds[1].fd >= 0 && fds[1].revents != 0) {
            ssize_t n = read(errors, log + len, sizeof(log) - 1 - len);
            if (n <= 0)
                fds[1].fd = -1;
            len += n > 0 ? (size_t)n : 0;
            log[len] = '\0';
            mark(r, log, now);
        }
    }
}

static run get(bool verbose)
{
    char *argv[] = {"datapeer", "get", "bench:file", "-o", "-", "--server", server, verbose ? "-vvv" : NULL,
                    NULL};
    run r = {0};
    int out, errors, status;
    struct rusage used;
    double begin = wall();
    pid_t pid = start(argv, &out, &errors);
    watch(&r, begin, out, errors);
    need(wait4(pid, &status, 0, &used) == pid && status == 0, "get");
    r.whole = since(begin);
    r.cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e3 +
            (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e3;
    close(out);
    close(errors);
    return r;
}

int main(int argc, char **argv)
{
    static double first[RUNS_MAX], whole[RUNS_MAX], cpu[RUNS_MAX], stage[STAGES][RUNS_MAX];
    char path[64];
    size_t runs = argc == 3 && strcmp(argv[1], "--runs") == 0 ? (size_t)atoi(argv[2]) : 50;
    ssize_t len = readlink("/proc/self/exe", datapeer, sizeof(datapeer) - 16);
    need(len > 0 && runs > 0 && runs <= RUNS_MAX && mkdtemp(folder) != NULL, "start");
    char *slash = strstr(datapeer, "/bench/");
    need(slash != NULL, "where datapeer is");
    strcpy(slash, "/datapeer");
    snprintf(path, sizeof(path), "%s/file", folder);
    FILE *file = fopen(path, "w");
    need(file != NULL && fputs("x", file) >= 0 && fclose(file) == 0, path);

    pid_t device = start_device();
    for (size_t i = 0; i < runs; i++) {
        run plain = get(false);
        first[i] = plain.at[STAGES - 1];
        whole[i] = plain.whole;
        cpu[i] = plain.cpu;
        run told = get(true);
        for (size_t j = 0; j < STAGES; j++)
            stage[j][i] = told.at[j] - (j > 0 ? told.at[j - 1] : 0);
    }
    kill(device, SIGTERM);
    waitpid(device, NULL, 0);
    need(unlink(path) == 0 && rmdir(folder) == 0, folder);

    printf("{\"bench\": \"get\", \"runs\": %zu, \"first_byte\": %.1f, \"p10\": %.1f, \"p90\": %.1f, \"end\": "
           "%.1f, "
           "\"cpu\": %.1f, \"stages\": {",
           runs, percentile(first, runs, 0.5), percentile(first, runs, 0.1), percentile(first, runs, 0.9),
           percentile(whole, runs, 0.5), percentile(cpu, runs, 0.5));
    for (size_t j = 0; j < STAGES; j++)
        printf("%s\"%s\": %.1f", j > 0 ? ", " : "", stages[j].name, percentile(stage[j], runs, 0.5));
    printf("}}\n");
    return 0;
}
