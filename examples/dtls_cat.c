/* datapeer's DTLS alone over UDP, in a loop of its own around poll(2): sends what comes in, prints what arrives.
 *
 *     dtls_cat --server 127.0.0.1 4433        in one terminal; in the other: dtls_cat 127.0.0.1 4433
 *
 * Each prints the fingerprint of its certificate; paste it into the other, or name it by --fingerprint. The far end may
 * be another program, such as "openssl s_server -dtls1_2". Stdout carries the data, stderr everything else. */
#include <datapeer/datapeer.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1024 };

static const char usage[] =
    "usage: dtls_cat [--client | --server] [--fingerprint 'sha-256 AB:CD:...'] [--srtp] HOST PORT\n"
    "  --client       call HOST PORT (the default)\n"
    "  --server       wait at HOST PORT for the first who calls\n"
    "  --fingerprint  the certificate that the peer has to prove; without it: the first line of the input\n"
    "  --srtp         print the keys for SRTP (RFC 5764): secrets\n"
    "The end of the input and Ctrl-C close the connection. Exit status: 0 closed, 1 failed, 2 bad usage.\n";

typedef struct cat {
    const char *host;
    const char *port;
    const char *fingerprint;
    dp_dtls_role role;
    bool srtp;
    int socket;
    dp_dtls *dtls;
} cat;

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* ---- events and datagrams out: after everything that is done to the dp_dtls ---- */

static void print_hex(const char *before, const uint8_t *bytes, size_t len)
{
    fputs(before, stderr);
    for (size_t i = 0; i < len; i++)
        fprintf(stderr, "%02X", bytes[i]);
}

static void on_connected(const cat *c)
{
    dp_srtp_keys keys;
    if (c->srtp && dp_dtls_srtp_keys(c->dtls, &keys) == DP_OK) {
        print_hex("srtp local ", keys.local_key, sizeof keys.local_key);
        print_hex(" ", keys.local_salt, sizeof keys.local_salt);
        print_hex("\nsrtp remote ", keys.remote_key, sizeof keys.remote_key);
        print_hex(" ", keys.remote_salt, sizeof keys.remote_salt);
        fputs("\n", stderr);
    } else if (c->srtp) {
        fprintf(stderr, "srtp none: the peer has no profile of ours\n");
    }
    fprintf(stderr, "connected\n");
}

static void pump(const cat *c)
{
    dp_dtls_event event;
    uint8_t datagram[DP_DATAGRAM_MAX];
    size_t len;
    while (dp_dtls_poll_event(c->dtls, &event)) {
        if (event.type == DP_DTLS_EVENT_CONNECTED)
            on_connected(c);
        else if (event.type == DP_DTLS_EVENT_DATA)
            fwrite(event.data, 1, event.len, stdout);
        else if (event.type == DP_DTLS_EVENT_CLOSED)
            fprintf(stderr, "closed by the peer\n");
        else
            fprintf(stderr, "dtls_cat: %s\n", event.message);
    }
    fflush(stdout);
    /* What the kernel does not take is lost, as it may be anywhere on the way. */
    while (dp_dtls_poll_transmit(c->dtls, datagram, sizeof datagram, &len))
        (void)send(c->socket, datagram, len, 0);
}

/* ---- in ---- */

static void on_datagram(const cat *c)
{
    static uint8_t datagram[DP_DTLS_RECORD_MAX + DP_DTLS_OVERHEAD];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof from;
    ssize_t len = recvfrom(c->socket, datagram, sizeof datagram, 0, (struct sockaddr *)&from, &from_len);
    if (len < 0)
        return; /* nobody is there yet, says ICMP: the handshake asks again */
    /* In WebRTC ICE says which address is the peer's. Here it is that of the first caller: from now on the kernel drops
     * everybody else's datagrams. */
    (void)connect(c->socket, (struct sockaddr *)&from, from_len);
    dp_dtls_input(c->dtls, dp_clock_now(), datagram, (size_t)len);
}

static void on_input(const cat *c)
{
    uint8_t data[CHUNK];
    uint8_t datagram[CHUNK + DP_DTLS_OVERHEAD];
    size_t sealed;
    ssize_t len = read(STDIN_FILENO, data, sizeof data);
    if (len <= 0)
        dp_dtls_close(c->dtls, dp_clock_now());
    else if (dp_dtls_seal(c->dtls, datagram, sizeof datagram, &sealed, data, (size_t)len) == DP_OK)
        (void)send(c->socket, datagram, sealed, 0);
}

static struct timespec until(dp_time time)
{
    dp_time now = dp_clock_now();
    dp_duration left = time == DP_TIME_NEVER ? DP_SECONDS(3600) : time > now ? time - now : 0;
    return (struct timespec){.tv_sec = (time_t)(left / DP_SECONDS(1)),
                             .tv_nsec = (long)(left % DP_SECONDS(1) * 1000)};
}

/* Signals get through only while ppoll waits, so that none is missed between two rounds. */
static void run(const cat *c, const sigset_t *waiting)
{
    for (;;) {
        pump(c);
        dp_dtls_state state = dp_dtls_get_state(c->dtls);
        if (state != DP_DTLS_CONNECTING && state != DP_DTLS_CONNECTED)
            return;
        struct pollfd fds[] = {{.fd = c->socket, .events = POLLIN},
                               {.fd = state == DP_DTLS_CONNECTED ? STDIN_FILENO : -1, .events = POLLIN}};
        struct timespec left = until(dp_dtls_next_timeout(c->dtls));
        int ready = ppoll(fds, 2, &left, waiting);
        dp_dtls_handle_timeout(c->dtls, dp_clock_now()); /* too early does no harm */
        if (interrupted)
            dp_dtls_close(c->dtls, dp_clock_now());
        if (ready > 0 && fds[0].revents != 0)
            on_datagram(c);
        if (ready > 0 && fds[1].revents != 0)
            on_input(c);
    }
}

/* ---- life ---- */

static bool parse_arguments(cat *c, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--client") == 0)
            c->role = DP_DTLS_CLIENT;
        else if (strcmp(argv[i], "--server") == 0)
            c->role = DP_DTLS_SERVER;
        else if (strcmp(argv[i], "--srtp") == 0)
            c->srtp = true;
        else if (strcmp(argv[i], "--fingerprint") == 0 && i + 1 < argc)
            c->fingerprint = argv[++i];
        else
            return false;
    }
    if (i + 2 != argc)
        return false;
    c->host = argv[i];
    c->port = argv[i + 1];
    return true;
}

static bool open_socket(cat *c)
{
    struct addrinfo *found;
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM};
    int error = getaddrinfo(c->host, c->port, &hints, &found);
    if (error != 0)
        return fprintf(stderr, "dtls_cat: %s: %s\n", c->host, gai_strerror(error)), false;
    bool server = c->role == DP_DTLS_SERVER;
    c->socket = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    error = server ? bind(c->socket, found->ai_addr, found->ai_addrlen)
                   : connect(c->socket, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    if (error != 0)
        perror("dtls_cat");
    return error == 0;
}

/* Prints our fingerprint, takes the peer's. */
static int exchange_fingerprints(const cat *c, const dp_certificate *certificate)
{
    char line[DP_FINGERPRINT_TEXT_MAX];
    dp_fingerprint fingerprint;
    dp_certificate_fingerprint(certificate, &fingerprint);
    fprintf(stderr, "fingerprint %s\n", dp_fingerprint_format(&fingerprint, line));
    setvbuf(stdin, NULL, _IONBF, 0); /* what follows the line is data, and left to read(2) */
    const char *text = c->fingerprint != NULL ? c->fingerprint : fgets(line, sizeof line, stdin);
    int error =
        text == NULL ? DP_ERR_NOT_FOUND : dp_fingerprint_parse(&fingerprint, text, strcspn(text, "\n"));
    if (error != DP_OK)
        fprintf(stderr, "dtls_cat: the peer's fingerprint should be given as 'sha-256 AB:CD:...'\n");
    return error == DP_OK ? dp_dtls_set_remote_fingerprints(c->dtls, &fingerprint, 1) : error;
}

int main(int argc, char **argv)
{
    cat c = {.role = DP_DTLS_CLIENT};
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(usage, stdout), 0;
    if (!parse_arguments(&c, argc, argv))
        return fputs(usage, stderr), 2;
    if (!open_socket(&c))
        return 1;

    dp_csprng *csprng = NULL;
    dp_certificate *certificate = NULL;
    int error = dp_csprng_new(&csprng);
    dp_dtls_config config = {.size = sizeof config, .role = c.role};
    if (error == DP_OK) {
        config.random = dp_csprng_source(csprng);
        error = dp_certificate_generate(&certificate, &config.random, dp_clock_unix());
    }
    config.certificate = certificate;
    if (error == DP_OK)
        error = dp_dtls_new(&c.dtls, &config);
    if (error == DP_OK)
        error = exchange_fingerprints(&c, certificate);

    sigset_t ends;
    sigset_t waiting;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, &waiting);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    if (error == DP_OK)
        error = dp_dtls_start(c.dtls, dp_clock_now());
    if (error == DP_OK)
        run(&c, &waiting);
    else
        fprintf(stderr, "dtls_cat: %s\n", dp_strerror(error));
    bool failed = error != DP_OK || dp_dtls_get_state(c.dtls) == DP_DTLS_FAILED;
    dp_dtls_free(c.dtls);
    dp_certificate_free(certificate);
    dp_csprng_free(csprng);
    close(c.socket);
    return failed ? 1 : 0;
}
