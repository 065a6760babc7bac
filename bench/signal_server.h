/* What the measurements of PeerServers share: a server in a process of its own, and clients on plain sockets. */
#ifndef BENCH_SIGNAL_SERVER_H
#define BENCH_SIGNAL_SERVER_H

#include "measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

static inline double wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* As many descriptors as may be; returns how many of `wanted` clients they suffice for. */
static inline int raise_descriptors(int wanted)
{
    struct rlimit limit;
    need(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    need(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    if ((rlim_t)wanted + 100 <= limit.rlim_max)
        return wanted;
    fprintf(stderr, "only %ld descriptors may be open: fewer clients\n", (long)limit.rlim_max);
    return (int)limit.rlim_max - 100;
}

/* ---- the server ---------------------------------------------------------------------------------------- */

typedef struct program {
    pid_t pid;
    uint16_t port;
} program;

/* Starts argv; "datapeer" is the one that was built with this program. Its port is the last number of the first line that
 * it prints. */
static inline program start_program(const char *const *argv)
{
    int ends[2];
    char line[256], path[4096];
    program p;
    ssize_t path_len = readlink("/proc/self/exe", path, sizeof(path) - 32);
    need(path_len > 0 && pipe(ends) == 0, "pipe");
    path[path_len] = '\0';
    char *folder = strstr(path, "/bench/");
    need(folder != NULL, "where datapeer is");
    snprintf(folder, 32, "/datapeer");
    p.pid = fork_child();
    if (p.pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execvp(strcmp(argv[0], "datapeer") == 0 ? path : argv[0], (char *const *)argv);
        _exit(127);
    }
    close(ends[1]);
    ssize_t len = read(ends[0], line, sizeof(line) - 1);
    close(ends[0]);
    if (len <= 0) {
        fprintf(stderr, "%s does not start\n", argv[0]);
        exit(1);
    }
    line[len] = '\0';
    const char *colon = strrchr(line, ':');
    p.port = (uint16_t)(colon != NULL ? atoi(colon + 1) : 0);
    need(p.port != 0, "its port");
    return p;
}

static inline void stop_program(const program *p)
{
    kill(p->pid, SIGKILL);
    waitpid(p->pid, NULL, 0);
}

static inline double resident_KB(pid_t pid)
{
    char path[64], line[256];
    double value = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    need(file != NULL, path);
    while (fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, "VmRSS: %lf", &value);
    fclose(file);
    return value;
}

/* ---- clients ------------------------------------------------------------------------------------------- */

/* What a client with this id asks for. */
static inline size_t upgrade_request(char *out, size_t capacity, const char *id)
{
    return (size_t)snprintf(
        out, capacity,
        "GET /peerjs?key=peerjs&id=%s&token=t HTTP/1.1\r\nHost: h\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        id);
}

static inline void write_all(int fd, const void *data, size_t len)
{
    need(send(fd, data, len, MSG_NOSIGNAL) == (ssize_t)len, "send");
}

/* Blocking, from this address of loopback; -1: refused. */
static inline int dial(uint16_t port, uint32_t from)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in source = {.sin_family = AF_INET};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    source.sin_addr.s_addr = htonl(from);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    need(fd >= 0, "socket");
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    need(bind(fd, (struct sockaddr *)&source, sizeof(source)) == 0, "bind");
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The socket of a client that has joined; -1: it was refused. */
static inline int try_join(uint16_t port, uint32_t from, const char *id)
{
    char text[512];
    size_t got = 0;
    int fd = dial(port, from);
    if (fd < 0)
        return -1;
    (void)!send(fd, text, upgrade_request(text, sizeof(text), id), MSG_NOSIGNAL);
    do {
        ssize_t n = recv(fd, text + got, sizeof(text) - 1 - got, 0);
        if (n <= 0) {
            close(fd);
            return -1;
        }
        got += (size_t)n;
        text[got] = '\0';
    } while (strstr(text, "\"OPEN\"}") == NULL);
    return fd;
}

static inline int join(uint16_t port, const char *id)
{
    int fd = try_join(port, INADDR_LOOPBACK, id);
    need(fd >= 0, "join");
    return fd;
}

/* A masked text frame; the mask is zero. */
static inline size_t frame(uint8_t *out, const char *text)
{
    size_t len = strlen(text), n = 2;
    out[0] = 0x81;
    out[1] = (uint8_t)(0x80 | (len < 126 ? len : 126));
    if (len >= 126) {
        out[n++] = (uint8_t)(len >> 8);
        out[n++] = (uint8_t)len;
    }
    memset(out + n, 0, 4);
    memcpy(out + n + 4, text, len);
    return n + 4 + len;
}

#endif
