#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        int result_ = (call);                                                                                \
        if (result_ != DP_OK) {                                                                              \
            fprintf(stderr, "%s: %s\n", #call, dp_strerror(result_));                                        \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

#define STREAM_REFUSED DP_SECONDS(3)
#define PAYLOAD_LEN    9
#define PAYLOAD_FIRST  22 /* no STUN message begins so, no ChannelData (RFC 7983) */

static dp_time now_of(const sim_host *host) { return host->node.net->now; }

/* ---- signalling ---- */

static void hear(sim_net *net, sim_event *event);

static void say(sim_host *host, char what, const char *text, size_t len)
{
    sim_net *net = host->node.net;
    dp_time at = net->now + host->config.signal_delay;
    if (host->config.signal_jitter > 0)
        at += sim_random(&net->seed) % host->config.signal_jitter;
    host->signal_last = at > host->signal_last ? at : host->signal_last;
    if (host->peer != NULL)
        sim_after(net, host->signal_last - net->now, hear, host->peer, (uint64_t)what, text, len);
}

static void say_credentials(sim_host *host)
{
    char text[600];
    int len =
        snprintf(text, sizeof text, "%s %s", dp_ice_local_ufrag(host->ice), dp_ice_local_pwd(host->ice));
    say(host, 'C', text, (size_t)len);
    host->candidate_count = 0;
    host->gathered = false;
}

static void hear_credentials(sim_host *host, char *text)
{
    char *pwd = strchr(text, ' ');
    *pwd++ = '\0';
    bool other = host->remote_ufrag[0] != '\0' && strcmp(host->remote_ufrag, text) != 0;
    if (other && !host->restarting) {
        MUST(dp_ice_restart(host->ice, now_of(host)));
        say_credentials(host);
    }
    host->restarting = false;
    snprintf(host->remote_ufrag, sizeof host->remote_ufrag, "%s", text);
    MUST(dp_ice_set_remote_credentials(host->ice, now_of(host), text, pwd));
    host->described_at = now_of(host);
}

static void hear_description(sim_host *host, dp_sdp_type type, const char *text, size_t len)
{
    char answer[16384];
    size_t answer_len;
    dp_sdp_error error;
    MUST(dp_pc_set_remote_description(host->pc, now_of(host), type, text, len, &error));
    host->described_at = now_of(host);
    if (type == DP_SDP_OFFER) {
        MUST(dp_pc_create_answer(host->pc, now_of(host), answer, sizeof answer, &answer_len));
        say(host, 'A', answer, answer_len);
    }
}

static void hear(sim_net *net, sim_event *event)
{
    sim_host *host = event->ctx;
    char *text = sim_alloc(event->len + 1);
    memcpy(text, event->data, event->len);
    if (!host->started && !host->config.pc)
        sim_host_start(host);
    switch ((char)event->number) {
    case 'C':
        hear_credentials(host, text);
        break;
    case 'O':
    case 'A':
        hear_description(host, event->number == 'O' ? DP_SDP_OFFER : DP_SDP_ANSWER, text, event->len);
        break;
    default: /* a candidate, or the end of them */
        MUST(host->config.pc ? dp_pc_add_remote_candidate(host->pc, net->now, text)
                             : dp_ice_add_remote_candidate(host->ice, net->now, text));
    }
    free(text);
    sim_host_drain(host);
}

static void offer(sim_host *host)
{
    char text[16384];
    size_t len;
    MUST(dp_pc_create_offer(host->pc, now_of(host), text, sizeof text, &len));
    say(host, 'O', text, len);
}

/* ---- links ---- */

static sim_socket *socket_of_link(sim_host *host, uint32_t link)
{
    for (size_t i = 0; i < host->socket_count; i++) {
        if (host->sockets[i].link == link)
            return &host->sockets[i];
    }
    return NULL;
}

static sim_socket *socket_at(sim_host *host, const dp_address *local)
{
    for (size_t i = 0; i < host->socket_count; i++) {
        if (dp_address_equal(&host->sockets[i].local, local))
            return &host->sockets[i];
    }
    return NULL;
}

static sim_socket *socket_add(sim_host *host, const dp_address *ip, sim_port *port)
{
    if (host->socket_count == SIM_SOCKETS_MAX)
        abort();
    sim_socket *s = &host->sockets[host->socket_count++];
    *s = (sim_socket){.local = *ip, .port = port};
    s->local.port = host->next_port++;
    return s;
}

static void socket_remove(sim_host *host, sim_socket *s) { *s = host->sockets[--host->socket_count]; }

static void link_opened(sim_host *host, uint32_t link)
{
    if (host->config.pc)
        dp_pc_link_opened(host->pc, now_of(host), link);
    else
        dp_ice_link_opened(host->ice, now_of(host), link);
}

static void link_closed(sim_host *host, uint32_t link)
{
    if (host->config.pc)
        dp_pc_link_closed(host->pc, now_of(host), link);
    else
        dp_ice_link_closed(host->ice, now_of(host), link);
}

static void note_payload(sim_host *host, const dp_ice_payload *payload, uint32_t link,
                         const dp_address *local, const dp_address *remote)
{
    if (payload->len != PAYLOAD_LEN || payload->data[0] != PAYLOAD_FIRST)
        abort();
    host->arrivals++;
    memcpy(&host->arrived, payload->data + 1, sizeof host->arrived);
    host->arrived_link = link;
    host->arrived_local = *local;
    host->arrived_remote = *remote;
}

static void link_input(sim_host *host, uint32_t link, uint8_t *data, size_t len)
{
    static const dp_address none;
    if (host->config.pc) {
        dp_pc_link_input(host->pc, now_of(host), link, data, len);
        return;
    }
    while (len > 0) {
        dp_ice_payload payload = {0};
        size_t taken = dp_ice_link_input(host->ice, now_of(host), link, data, len, &payload);
        if (taken == 0 || taken > len)
            abort();
        if (payload.len > 0)
            note_payload(host, &payload, link, &none, &none);
        data += taken;
        len -= taken;
    }
}

static void stream_input(void *ctx, uint64_t link, uint8_t *data, size_t len)
{
    sim_host *host = ctx;
    if (socket_of_link(host, (uint32_t)link) != NULL) {
        link_input(host, (uint32_t)link, data, len);
        sim_host_drain(host);
    }
}

static void stream_ready(sim_net *net, sim_event *event)
{
    sim_host *host = event->ctx;
    (void)net;
    sim_socket *s = socket_of_link(host, (uint32_t)event->number);
    if (s == NULL)
        return; /* closed meanwhile */
    if (s->stream != NULL) {
        link_opened(host, s->link);
    } else {
        uint32_t link = s->link;
        socket_remove(host, s);
        link_closed(host, link);
    }
    sim_host_drain(host);
}

static void stream_open(sim_host *host, const dp_ice_link *link)
{
    sim_socket *s = socket_add(host, &link->local, NULL);
    s->link = link->id;
    for (size_t i = 0; i < host->server_count && !host->config.streams_blocked; i++) {
        if (dp_address_equal(&host->server_addresses[i], &link->remote) && host->servers[i] != NULL)
            s->stream =
                sim_stream_open(host->servers[i], host->config.stream_delay, stream_input, host, link->id);
    }
    /* A round trip for TCP, two more for TLS. */
    dp_duration wait = (link->transport == DP_ICE_TLS ? 6 : 2) * host->config.stream_delay;
    sim_after(host->node.net, s->stream != NULL ? wait : STREAM_REFUSED, stream_ready, host, link->id, NULL,
              0);
}

static void link_open(sim_host *host, const dp_ice_link *link)
{
    if (link->transport != DP_ICE_UDP) {
        stream_open(host, link);
        return;
    }
    for (size_t i = 0; i < host->socket_count; i++) {
        sim_socket *s = &host->sockets[i];
        bool fits = link->local.family == DP_FAMILY_NONE ? s->local.family == link->remote.family
                                                         : sim_same_ip(&s->local, &link->local);
        if (fits && s->port != NULL) {
            dp_address ip = s->local;
            sim_socket *made = socket_add(host, &ip, s->port);
            made->link = link->id;
            made->remote = link->remote;
            link_opened(host, link->id);
            return;
        }
    }
    link_closed(host, link->id);
}

static void link_close(sim_host *host, uint32_t link)
{
    sim_socket *s = socket_of_link(host, link);
    if (s == NULL)
        return;
    if (s->stream != NULL)
        sim_stream_close(s->stream);
    socket_remove(host, s);
}

/* ---- events ---- */

static void note_state(sim_host *host, int state)
{
    if (host->state_count < SIM_HISTORY_MAX)
        host->states[host->state_count++] = state;
}

static void note_candidate(sim_host *host, const char *text, const dp_address *base)
{
    dp_candidate candidate;
    MUST(dp_candidate_parse(&candidate, text, strlen(text)));
    if (host->candidate_count < SIM_CANDIDATES_MAX)
        host->candidates[host->candidate_count++] = (sim_candidate){candidate.type, candidate.address, *base};
    say(host, 'c', text, strlen(text));
}

static void note_pair(sim_host *host, const dp_address *local, const dp_address *remote,
                      dp_candidate_type local_type, dp_candidate_type remote_type)
{
    host->selections++;
    host->selected = (sim_pair){*local, *remote, local_type, remote_type};
    if (host->usable_at == 0)
        host->usable_at = now_of(host);
}

static void ice_event(sim_host *host, const dp_ice_event *event)
{
    switch (event->type) {
    case DP_ICE_EVENT_LOCAL_CANDIDATE:
        note_candidate(host, event->candidate, &event->local);
        break;
    case DP_ICE_EVENT_GATHERING_COMPLETE:
        host->gathered = true;
        say(host, 'c', "", 0);
        break;
    case DP_ICE_EVENT_STATE:
        note_state(host, (int)event->state);
        break;
    case DP_ICE_EVENT_SELECTED_PAIR:
        note_pair(host, &event->local, &event->remote, event->local_type, event->remote_type);
        break;
    case DP_ICE_EVENT_RESOLVE:
        dp_ice_resolved(host->ice, now_of(host), event->hostname, NULL, 0);
        break;
    case DP_ICE_EVENT_LINK_OPEN: {
        dp_ice_link link = event->link;
        link_open(host, &link);
        break;
    }
    case DP_ICE_EVENT_LINK_CLOSE:
        link_close(host, event->link.id);
        break;
    }
}

static void pc_event(sim_host *host, const dp_pc_event *event)
{
    switch (event->type) {
    case DP_PC_EVENT_LOCAL_CANDIDATE:
        note_candidate(host, event->candidate, &event->local);
        break;
    case DP_PC_EVENT_GATHERING_COMPLETE:
        host->gathered = true;
        say(host, 'c', "", 0);
        break;
    case DP_PC_EVENT_STATE:
        note_state(host, (int)event->state);
        break;
    case DP_PC_EVENT_SELECTED_PAIR:
        note_pair(host, &event->local, &event->remote, event->local_type, event->remote_type);
        break;
    case DP_PC_EVENT_RESOLVE:
        dp_pc_resolved(host->pc, now_of(host), event->hostname, NULL, 0);
        break;
    case DP_PC_EVENT_LINK_OPEN: {
        dp_ice_link link = event->link;
        link_open(host, &link);
        break;
    }
    case DP_PC_EVENT_LINK_CLOSE:
        link_close(host, event->link.id);
        break;
    case DP_PC_EVENT_CHANNEL_OPEN:
        host->opened++;
        host->channel = host->channel != NULL ? host->channel : event->channel;
        break;
    case DP_PC_EVENT_CHANNEL_CLOSED:
        host->channel = host->channel == event->channel ? NULL : host->channel;
        break;
    default:
        break;
    }
    if (host->on_event != NULL)
        host->on_event(host, event);
}

static bool next_event(sim_host *host)
{
    dp_ice_event ice;
    dp_pc_event pc;
    if (host->config.pc) {
        if (!dp_pc_poll_event(host->pc, now_of(host), &pc))
            return false;
        pc_event(host, &pc);
    } else {
        if (!dp_ice_poll_event(host->ice, &ice))
            return false;
        ice_event(host, &ice);
    }
    return true;
}

static void transmit(sim_host *host, const dp_datagram *d)
{
    sim_socket *s = d->link != 0 ? socket_of_link(host, d->link) : socket_at(host, &d->local);
    host->sent++;
    if (s == NULL) {
        host->stray++;
    } else if (s->stream != NULL) {
        sim_stream_send(s->stream, d->data, d->length);
    } else if (s->port != NULL) {
        sim_datagram out = {s->local, d->link != 0 ? s->remote : d->remote, d->length, d->data};
        sim_send(s->port, &out);
    }
}

void sim_host_drain(sim_host *host)
{
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    for (bool more = true; more;) {
        more = false;
        while (next_event(host))
            more = true;
        while (host->config.pc ? dp_pc_poll_transmit(host->pc, now_of(host), &d)
                               : dp_ice_poll_transmit(host->ice, now_of(host), &d)) {
            transmit(host, &d);
            more = true;
        }
    }
}

/* ---- the node ---- */

static void receive(sim_node *node, sim_port *port, const sim_datagram *d)
{
    sim_host *host = (sim_host *)node;
    uint8_t data[DP_DATAGRAM_MAX];
    dp_ice_payload payload = {0};
    sim_socket *s = socket_at(host, &d->to);
    if (s == NULL || s->port != port || d->len > sizeof data ||
        (s->link != 0 && !dp_address_equal(&s->remote, &d->from)))
        return;
    memcpy(data, d->data, d->len);
    if (s->link != 0)
        link_input(host, s->link, data, d->len);
    else if (host->config.pc)
        dp_pc_input(host->pc, now_of(host), data, d->len, &d->to, &d->from);
    else if (dp_ice_input(host->ice, now_of(host), data, d->len, &d->to, &d->from, &payload))
        note_payload(host, &payload, 0, &d->to, &d->from);
    sim_host_drain(host);
}

static dp_time next_timeout(sim_node *node)
{
    sim_host *host = (sim_host *)node;
    return host->config.pc ? dp_pc_next_timeout(host->pc) : dp_ice_next_timeout(host->ice);
}

static void handle_timeout(sim_node *node)
{
    sim_host *host = (sim_host *)node;
    if (host->config.pc)
        dp_pc_handle_timeout(host->pc, now_of(host));
    else
        dp_ice_handle_timeout(host->ice, now_of(host));
    sim_host_drain(host);
}

static void clear(sim_node *node)
{
    sim_host *host = (sim_host *)node;
    dp_ice_free(host->ice);
    dp_pc_free(host->pc);
    dp_certificate_free(host->certificate);
    free(host);
}

static void log_line(void *ctx, dp_log_level level, const char *layer, const char *message)
{
    const sim_host *host = ctx;
    (void)level;
    fprintf(stderr, "%10.6f %-7s %s: %s\n", (double)(now_of(host) - DP_SECONDS(1000)) / 1e6, host->node.name,
            layer, message);
}

static void agent_new(sim_host *host)
{
    const sim_host_config *config = &host->config;
    dp_random random = {sim_random_bytes, &host->seed};
    dp_log log = {0};
    if (getenv("SIM_LOG") != NULL)
        log = (dp_log){log_line, host, DP_LOG_DEBUG};
    if (config->pc) {
        MUST(dp_certificate_generate(&host->certificate, &random, SIM_EPOCH));
        dp_pc_config pc = {.size = sizeof pc,
                           .random = random,
                           .log = log,
                           .certificate = host->certificate,
                           .ice_pacing = config->pacing,
                           .relay_only = config->relay_only,
                           .hide_addresses = config->hide_addresses};
        MUST(dp_pc_new(&host->pc, &pc));
    } else {
        dp_ice_config ice = {.size = sizeof ice,
                             .random = random,
                             .log = log,
                             .role = config->role,
                             .pacing = config->pacing,
                             .relay_only = config->relay_only,
                             .hide_addresses = config->hide_addresses};
        MUST(dp_ice_new(&host->ice, &ice));
    }
}

sim_host *sim_host_new(sim_net *net, const char *name, const sim_host_config *config)
{
    sim_host *host = sim_alloc(sizeof *host);
    host->node = (sim_node){.name = name,
                            .receive = receive,
                            .next_timeout = next_timeout,
                            .handle_timeout = handle_timeout,
                            .clear = clear};
    host->config = *config;
    host->seed = config->seed;
    host->next_port = 40000;
    sim_node_add(net, &host->node);
    agent_new(host);
    return host;
}

void sim_host_join(sim_host *a, sim_host *b)
{
    a->peer = b;
    b->peer = a;
}

sim_port *sim_host_plug(sim_host *host, sim_segment *segment, const sim_link *link)
{
    return sim_attach(&host->node, segment, link);
}

dp_address sim_host_add_address(sim_host *host, sim_port *port, const dp_address *ip)
{
    sim_socket *s = socket_add(host, ip, port);
    dp_address local = s->local;
    if (!sim_claims(port, ip))
        sim_claim(port, ip);
    MUST(host->config.pc ? dp_pc_add_local_address(host->pc, now_of(host), &local)
                         : dp_ice_add_local_address(host->ice, now_of(host), &local));
    sim_host_drain(host);
    return local;
}

void sim_host_remove_address(sim_host *host, const dp_address *local)
{
    sim_socket *s = socket_at(host, local);
    dp_address gone = s->local;
    sim_unclaim(s->port, &gone);
    socket_remove(host, s);
    for (size_t i = host->socket_count;
         i-- > 0;) { /* the system refuses to send from there: the owner sees that */
        uint32_t link = host->sockets[i].link;
        if (link != 0 && host->sockets[i].stream == NULL && sim_same_ip(&host->sockets[i].local, &gone)) {
            socket_remove(host, &host->sockets[i]);
            link_closed(host, link);
        }
    }
    MUST(host->config.pc ? dp_pc_remove_local_address(host->pc, now_of(host), &gone)
                         : dp_ice_remove_local_address(host->ice, now_of(host), &gone));
    sim_host_drain(host);
}

void sim_host_add_server(sim_host *host, const dp_ice_server *config, sim_server *server)
{
    if (host->server_count == SIM_SERVERS_MAX)
        abort();
    host->servers[host->server_count] = server;
    host->server_addresses[host->server_count++] = config->address;
    MUST(host->config.pc ? dp_pc_add_ice_server(host->pc, config) : dp_ice_add_server(host->ice, config));
}

void sim_host_start(sim_host *host)
{
    dp_channel_init init = DP_CHANNEL_INIT("sim");
    if (host->started)
        return;
    host->started = true;
    if (host->config.pc) {
        MUST(dp_pc_create_channel(host->pc, &host->channel, now_of(host), &init));
        offer(host);
    } else {
        MUST(dp_ice_gather(host->ice, now_of(host)));
        say_credentials(host);
    }
    sim_host_drain(host);
}

void sim_host_restart(sim_host *host)
{
    if (host->config.pc) {
        MUST(dp_pc_restart_ice(host->pc));
        offer(host);
    } else {
        MUST(dp_ice_restart(host->ice, now_of(host)));
        host->restarting = true;
        say_credentials(host);
    }
    sim_host_drain(host);
}

bool sim_host_ping(sim_host *host, uint64_t number)
{
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    size_t headroom;
    if (!dp_ice_send_begin(host->ice, &d, &headroom))
        return false;
    data[headroom] = PAYLOAD_FIRST;
    memcpy(data + headroom + 1, &number, sizeof number);
    d.length = PAYLOAD_LEN;
    dp_ice_send_end(host->ice, &d, headroom);
    if (d.length == 0)
        return false;
    transmit(host, &d);
    return true;
}

void sim_host_close(sim_host *host)
{
    if (host->config.pc)
        dp_pc_close(host->pc, now_of(host));
    else
        dp_ice_close(host->ice);
    sim_host_drain(host);
}

dp_ice_state sim_host_ice_state(const sim_host *host) { return dp_ice_get_state(host->ice); }

bool sim_host_pair(const sim_host *host, dp_address *local, dp_address *remote)
{
    return dp_ice_selected_pair(host->ice, local, remote);
}
