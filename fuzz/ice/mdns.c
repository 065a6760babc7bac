/* mDNS: the bytes choose what happens next to two objects on one link: a call, a datagram delivered, damaged or
 * doubled, raw bytes, a step of the clock. And the codec: what is read from raw bytes must be written and read
 * again as the same. */
#include "ice/mdns.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 300

typedef struct world {
    dp_time now;
    uint64_t seed;
    dp_mdns *nodes[2];
    dp_address locals[2];
} world;

static int seeded(void *ctx, uint8_t *out, size_t len)
{
    uint64_t *s = (uint64_t *)ctx;
    for (size_t i = 0; i < len; i++) {
        *s = *s * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(*s >> 56);
    }
    return DP_OK;
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_invariants(const dp_mdns *mdns)
{
    require(mdns->own_count <= DP_MDNS_OWN_MAX && mdns->replies.count <= DP_MDNS_REPLIES_MAX);
    require(mdns->remote_count <= DP_MDNS_ASKED_MAX + DP_MDNS_CACHED_MAX);
    for (size_t i = 0; i < mdns->remote_count; i++) {
        const dp_mdns_remote *name = &mdns->remote[i];
        require(dp_mdns_name_valid(name->name) && name->count <= DP_MDNS_MAX_ADDRESSES);
        for (size_t k = 0; k < name->count; k++)
            require(dp_mdns_address_useful(&name->addresses[k].address));
        for (size_t k = 0; k < i; k++)
            require(!dp_dns_name_equal(mdns->remote[k].name, name->name));
    }
    for (size_t i = 0; i < mdns->own_count; i++)
        require(dp_mdns_name_valid(mdns->own[i].name));
}

/* An exact copy, so that ASan sees each byte too many. */
static void input(world *w, size_t to, const uint8_t *data, size_t len, uint16_t port)
{
    dp_address remote = w->locals[1 - to];
    remote.port = port;
    uint8_t *exact = malloc(len > 0 ? len : 1);
    if (exact == NULL)
        return;
    if (len > 0)
        memcpy(exact, data, len);
    dp_mdns_input(w->nodes[to], w->now, exact, len, &w->locals[to], &remote);
    free(exact);
}

/* What a name may be: a few fixed ones, so that the nodes meet, or the fuzzer's. */
static const char *name(dp_rd *rd, char text[DP_MDNS_NAME_MAX + 1])
{
    static const char *const names[] = {"a.local", "A.Local", "b.local",
                                        "968425d5-f3c7-43ad-9710-95aa3904a9a7.local"};
    uint8_t which = dp_rd_u8(rd);
    if (which < 0xF0)
        return names[which % 4];
    size_t n = dp_rd_u8(rd);
    n = n < dp_rd_left(rd) ? n : dp_rd_left(rd);
    const uint8_t *bytes = dp_rd_bytes(rd, n);
    memset(text, 0, DP_MDNS_NAME_MAX + 1);
    if (bytes != NULL)
        memcpy(text, bytes, n);
    return text;
}

static dp_address some_address(dp_rd *rd)
{
    uint8_t kind = dp_rd_u8(rd);
    dp_address a = {.family = (kind & 1) != 0 ? DP_FAMILY_IPV6 : DP_FAMILY_IPV4, .ip = {10, 0, 0, kind}};
    if ((kind & 2) != 0)
        a.ip[0] = dp_rd_u8(rd);
    return a;
}

/* The next datagram of a node arrives at the other: bits 0 damaged, 1 twice, 2 from another port, 3 cut off,
 * 4 lost. */
static void deliver(world *w, size_t from, dp_rd *rd)
{
    uint8_t data[DP_DATAGRAM_MAX];
    dp_datagram d = {.data = data, .capacity = sizeof data};
    uint8_t how = dp_rd_u8(rd);
    if (!dp_mdns_poll_transmit(w->nodes[from], w->now, &d))
        return;
    require(d.length >= DP_DNS_HEADER_LEN && d.length <= sizeof data);
    if ((how & 1) != 0) {
        size_t at = (size_t)dp_rd_u16(rd) % d.length;
        data[at] ^= dp_rd_u8(rd);
    }
    if ((how & 8) != 0)
        d.length = dp_rd_u16(rd) % d.length;
    for (int i = (how & 16) != 0; i < ((how & 2) != 0 ? 2 : 1); i++)
        input(w, 1 - from, data, d.length, (how & 4) != 0 ? 40000 : DP_MDNS_PORT);
}

static void raw(world *w, dp_rd *rd)
{
    size_t n = dp_rd_u16(rd) % 1024;
    n = n < dp_rd_left(rd) ? n : dp_rd_left(rd);
    const uint8_t *bytes = dp_rd_bytes(rd, n);
    if (bytes != NULL)
        input(w, 0, bytes, n, DP_MDNS_PORT);
}

static void step(world *w, dp_rd *rd)
{
    char text[DP_MDNS_NAME_MAX + 1];
    dp_mdns_result result;
    uint8_t op = dp_rd_u8(rd);
    size_t node = op >> 7;
    dp_address address;
    switch ((op & 0x7F) % 10) {
    case 0:
        (void)dp_mdns_query(w->nodes[node], w->now, name(rd, text));
        break;
    case 1:
        address = some_address(rd);
        (void)dp_mdns_publish(w->nodes[node], w->now, name(rd, text), &address);
        break;
    case 2:
        (void)dp_mdns_withdraw(w->nodes[node], w->now, name(rd, text));
        break;
    case 3:
    case 4:
        deliver(w, node, rd);
        break;
    case 5:
        raw(w, rd);
        break;
    case 6:
        w->now += (dp_duration)dp_rd_u8(rd) * DP_MS(8);
        break;
    case 7:
        w->now += (dp_duration)dp_rd_u8(rd) * DP_SECONDS(1);
        break;
    case 8:
        address = some_address(rd);
        if ((op & 0x40) != 0)
            dp_mdns_remove_socket(w->nodes[node], &address);
        else
            (void)dp_mdns_add_socket(w->nodes[node], w->now, &address);
        break;
    default:
        while (dp_mdns_poll_result(w->nodes[node], &result))
            require(result.count <= DP_MDNS_MAX_ADDRESSES && result.name[0] != '\0');
        break;
    }
    for (size_t i = 0; i < 2; i++) {
        if (dp_mdns_next_timeout(w->nodes[i]) <= w->now)
            dp_mdns_handle_timeout(w->nodes[i], w->now);
        check_invariants(w->nodes[i]);
    }
}

/* ---- the codec ---- */

static bool same_record(const dp_dns_record *a, const dp_dns_record *b)
{
    return strcmp(a->name, b->name) == 0 && a->type == b->type && a->ttl == b->ttl && a->has_a == b->has_a &&
           a->has_aaaa == b->has_aaaa && dp_address_equal(&a->address, &b->address);
}

static void codec(const uint8_t *data, size_t size)
{
    uint8_t out[1024];
    size_t len;
    dp_dns_message m;
    dp_dns_message again;
    dp_dns_question q;
    dp_dns_record r;
    dp_dns_record r2;
    if (dp_dns_read_header(&m, data, size) != DP_OK)
        return;
    while (dp_dns_next_question(&m, &q))
        require(q.name[0] == '\0' || dp_dns_name_valid(q.name));
    while (dp_dns_next_record(&m, &r)) {
        dp_dns_writer w;
        if (r.name[0] == '\0' || (r.type != DP_DNS_A && r.type != DP_DNS_AAAA && r.type != DP_DNS_NSEC))
            continue;
        dp_dns_start(&w, out, sizeof out, m.id, true);
        if (r.type == DP_DNS_NSEC)
            dp_dns_write_nsec(&w, r.name, r.has_a, r.has_aaaa, r.ttl);
        else
            dp_dns_write_address(&w, r.name, &r.address, r.ttl, r.flush);
        require(dp_dns_finish(&w, &len) == DP_OK);
        require(dp_dns_read_header(&again, out, len) == DP_OK && again.id == m.id && again.response);
        require(dp_dns_next_record(&again, &r2) && same_record(&r, &r2));
        require(!dp_dns_next_record(&again, &r2) && !again.rd.error);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world w = {.now = DP_SECONDS(1), .seed = 1};
    dp_rd rd = dp_rd_init(data, size);
    codec(data, size);
    for (uint8_t i = 0; i < 2; i++) {
        dp_mdns_config config = {.size = sizeof config, .random = {seeded, &w.seed}};
        w.locals[i] = (dp_address){.family = DP_FAMILY_IPV4, .port = DP_MDNS_PORT, .ip = {10, 0, 0, i}};
        if (dp_mdns_new(&w.nodes[i], &config) != DP_OK)
            abort();
        (void)dp_mdns_add_socket(w.nodes[i], w.now, &w.locals[i]);
    }
    for (int i = 0; i < STEPS_MAX && dp_rd_left(&rd) > 0; i++)
        step(&w, &rd);
    dp_mdns_free(w.nodes[0]);
    dp_mdns_free(w.nodes[1]);
    return 0;
}
