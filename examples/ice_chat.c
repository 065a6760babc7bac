/* ICE alone, without DTLS and SCTP: two terminals chat over a path that the agent finds. Nothing is encrypted: an
 * application of its own would put its own protection on top.
 *
 *     ice_chat offer        in one terminal; the other runs: ice_chat answer
 *
 * Each prints its credentials and candidates. Paste these lines into the other; once "connected" is printed, every
 * line that is typed is sent. (Or join the two by pipes.) */
#include <datapeer/datapeer.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SOCKETS = 16, MAX_LINE = 1024 };

typedef struct chat {
    dp_loop *loop;
    dp_ice *ice;
    dp_udp *sockets[MAX_SOCKETS];
    size_t socket_count;
    dp_timer timer;
    dp_watch *input;
    char line[MAX_LINE];
    size_t length;
} chat;

/* ---- events out, datagrams out, the next timeout: after everything that is done to the agent ---- */

static void send_slot(chat *c, const dp_datagram *slot)
{
    for (size_t i = 0; i < c->socket_count; i++) {
        if (dp_address_equal(dp_udp_local(c->sockets[i]), &slot->local))
            dp_udp_commit(c->loop, c->sockets[i], slot);
    }
}

static void on_event(chat *c, const dp_ice_event *event)
{
    if (event->type == DP_ICE_EVENT_LOCAL_CANDIDATE)
        printf("%s\n", event->candidate);
    else if (event->type == DP_ICE_EVENT_STATE)
        printf("%s\n", dp_ice_state_name(event->state));
    fflush(stdout);
    if (event->type == DP_ICE_EVENT_STATE && event->state == DP_ICE_FAILED)
        dp_loop_stop(c->loop);
}

static void pump(chat *c)
{
    dp_time now = dp_loop_now(c->loop);
    dp_ice_event event;
    dp_datagram slot;
    while (dp_ice_poll_event(c->ice, &event))
        on_event(c, &event);
    while (dp_udp_slot(c->loop, &slot) == DP_OK && dp_ice_poll_transmit(c->ice, now, &slot))
        send_slot(c, &slot);
    dp_timer_set(c->loop, &c->timer, dp_ice_next_timeout(c->ice));
}

static void on_timer(void *user)
{
    chat *c = user;
    dp_ice_handle_timeout(c->ice, dp_loop_now(c->loop));
    pump(c);
}

/* ---- in ---- */

static void on_packets(void *user, dp_udp *udp, dp_udp_packet *packets, size_t count)
{
    chat *c = user;
    dp_ice_payload payload;
    for (size_t i = 0; i < count; i++) {
        if (dp_ice_input(c->ice, dp_loop_now(c->loop), packets[i].data, packets[i].len, dp_udp_local(udp),
                         &packets[i].remote, &payload))
            printf("%.*s\n", (int)payload.len, (const char *)payload.data);
    }
    fflush(stdout);
    pump(c);
}

static void say(chat *c, const char *text)
{
    dp_datagram slot;
    size_t headroom;
    size_t len = strlen(text);
    if (len == 0 || dp_udp_slot(c->loop, &slot) != DP_OK || !dp_ice_send_begin(c->ice, &slot, &headroom))
        return;
    memcpy(slot.data + headroom, text, len);
    slot.length = len;
    dp_ice_send_end(c->ice, &slot, headroom);
    send_slot(c, &slot);
}

static void on_line(chat *c, char *line)
{
    dp_time now = dp_loop_now(c->loop);
    char ufrag[DP_ICE_UFRAG_MAX + 1];
    char pwd[257];
    int error = DP_OK;
    if (sscanf(line, "credentials %256s %256s", ufrag, pwd) == 2)
        error = dp_ice_set_remote_credentials(c->ice, now, ufrag, pwd);
    else if (strncmp(line, "candidate:", 10) == 0)
        error = dp_ice_add_remote_candidate(c->ice, now, line);
    else
        say(c, line);
    if (error != DP_OK)
        fprintf(stderr, "ice_chat: %s: %s\n", dp_strerror(error), line);
}

static void on_input(void *user, int ready)
{
    chat *c = user;
    (void)ready;
    ssize_t n = read(STDIN_FILENO, c->line + c->length, sizeof(c->line) - 1 - c->length);
    if (n <= 0) {
        dp_loop_stop(c->loop);
        return;
    }
    c->length += (size_t)n;
    c->line[c->length] = '\0';
    char *start = c->line;
    for (char *end; (end = strchr(start, '\n')) != NULL; start = end + 1) {
        *end = '\0';
        on_line(c, start);
    }
    c->length -= (size_t)(start - c->line);
    memmove(c->line, start, c->length);
    if (c->length == sizeof(c->line) - 1) /* nobody types such a line */
        c->length = 0;
    pump(c);
}

/* ---- life ---- */

static int open_sockets(chat *c)
{
    dp_address addresses[MAX_SOCKETS];
    size_t count;
    int error = dp_interfaces(addresses, MAX_SOCKETS, &count, true);
    dp_udp_handler handler = {.on_packets = on_packets, .user = c};
    for (size_t i = 0; error == DP_OK && i < count; i++) {
        error = dp_udp_open(&c->sockets[i], c->loop, &addresses[i], &handler);
        if (error == DP_OK)
            error =
                dp_ice_add_local_address(c->ice, dp_clock_now(), dp_udp_local(c->sockets[c->socket_count++]));
    }
    return error;
}

int main(int argc, char **argv)
{
    if (argc != 2 || (strcmp(argv[1], "offer") != 0 && strcmp(argv[1], "answer") != 0))
        return fprintf(stderr, "usage: ice_chat offer|answer\n"), 2;
    static chat c;
    dp_csprng *csprng;
    c.timer = (dp_timer){.fn = on_timer, .user = &c};
    int error = dp_csprng_new(&csprng);
    if (error == DP_OK)
        error = dp_loop_new(&c.loop);
    dp_ice_config config = {.size = sizeof(config),
                            .random = dp_csprng_source(csprng),
                            .role = argv[1][0] == 'o' ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED};
    if (error == DP_OK)
        error = dp_ice_new(&c.ice, &config);
    if (error == DP_OK)
        error = open_sockets(&c);
    if (error == DP_OK)
        error = dp_watch_new(&c.input, c.loop, STDIN_FILENO, DP_READABLE, on_input, &c);
    if (error == DP_OK)
        error = dp_ice_gather(c.ice, dp_clock_now());
    if (error != DP_OK)
        return fprintf(stderr, "ice_chat: %s\n", dp_strerror(error)), 1;
    printf("credentials %s %s\n", dp_ice_local_ufrag(c.ice), dp_ice_local_pwd(c.ice));
    pump(&c);
    dp_loop_run(c.loop);
    dp_watch_free(c.input);
    while (c.socket_count > 0)
        dp_udp_close(c.sockets[--c.socket_count]);
    dp_ice_free(c.ice);
    dp_loop_free(c.loop);
    dp_csprng_free(csprng);
    return 0;
}
