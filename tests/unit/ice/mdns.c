/* mDNS objects on a link in virtual time: what one sends to the group, all others hear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ice/dns.h"
#include <datapeer/mdns.h>
#include <string.h>

#define NAME  "968425d5-f3c7-43ad-9710-95aa3904a9a7.local"
#define OTHER "12e50d30-e27b-4f09-a894-0f9f86f4149c.local"
#define NODES 2
#define START DP_SECONDS(100)

typedef struct sent {
    uint8_t data[DP_DATAGRAM_MAX];
    size_t len;
    dp_address local;
    dp_address remote;
} sent;

static dp_time now;
static dp_mdns *nodes[NODES];
static dp_address locals[NODES];
static sent last; /* datagram that left */

static int seeded(void *ctx, uint8_t *out, size_t len)
{
    uint32_t *s = ctx;
    for (size_t i = 0; i < len; i++) {
        *s = *s * 1664525u + 1013904223u;
        out[i] = (uint8_t)(*s >> 24);
    }
    return DP_OK;
}
static uint32_t seed = 1;

static dp_address address(const char *ip, uint16_t port)
{
    dp_address a;
    assert_int_equal(dp_address_parse(&a, ip, port), DP_OK);
    return a;
}

static int setup(void **state)
{
    (void)state;
    dp_mdns_config config = {.size = sizeof config, .random = {seeded, &seed}};
    now = START;
    locals[0] = address("10.0.0.1", DP_MDNS_PORT);
    locals[1] = address("10.0.0.2", DP_MDNS_PORT);
    for (size_t i = 0; i < NODES; i++) {
        assert_int_equal(dp_mdns_new(&nodes[i], &config), DP_OK);
        assert_int_equal(dp_mdns_add_socket(nodes[i], now, &locals[i]), DP_OK);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < NODES; i++)
        dp_mdns_free(nodes[i]);
    return 0;
}

/* The next datagram of a node, in last. */
static bool next(size_t node)
{
    dp_datagram d = {.data = last.data, .capacity = sizeof last.data};
    if (!dp_mdns_poll_transmit(nodes[node], now, &d))
        return false;
    assert_in_range(d.length, DP_DNS_HEADER_LEN, DP_DATAGRAM_MAX);
    last.len = d.length;
    last.local = d.local;
    last.remote = d.remote;
    return true;
}

static size_t drop(size_t node)
{
    size_t count = 0;
    while (next(node))
        count++;
    return count;
}

/* An exact copy, so that ASan sees each byte too many. */
static void input(size_t node, const uint8_t *data, size_t len, const dp_address *remote)
{
    uint8_t *exact = malloc(len > 0 ? len : 1);
    assert_non_null(exact);
    memcpy(exact, data, len);
    dp_mdns_input(nodes[node], now, exact, len, &locals[node], remote);
    free(exact);
}

/* Everything that waits is delivered to the other node; returns how many datagrams. */
static size_t exchange(void)
{
    size_t count = 0;
    for (size_t before = SIZE_MAX; before != count;) {
        before = count;
        for (size_t i = 0; i < NODES; i++) {
            for (; next(i); count++)
                input(1 - i, last.data, last.len, &locals[i]);
        }
    }
    return count;
}

static void advance(dp_duration by)
{
    dp_time end = now + by;
    exchange();
    for (;;) {
        dp_time at = DP_TIME_NEVER;
        for (size_t i = 0; i < NODES; i++)
            at = dp_mdns_next_timeout(nodes[i]) < at ? dp_mdns_next_timeout(nodes[i]) : at;
        now = at > end ? end : at > now ? at : now;
        for (size_t i = 0; i < NODES; i++)
            dp_mdns_handle_timeout(nodes[i], now);
        if (at > end)
            return;
        exchange();
    }
}

static size_t result(dp_mdns_result *out, const char *name)
{
    assert_true(dp_mdns_poll_result(nodes[0], out));
    assert_string_equal(out->name, name);
    return out->count;
}

static void assert_no_result(void)
{
    dp_mdns_result r;
    assert_false(dp_mdns_poll_result(nodes[0], &r));
}

static void assert_ip(const dp_address *a, const char *ip)
{
    char text[DP_ADDRESS_TEXT_MAX];
    assert_string_equal(dp_address_format_ip(a, text), ip);
    assert_int_equal(a->port, 0);
}

/* A query of somebody else's, to node. */
static void ask(size_t node, const char *name, uint16_t type, bool unicast, const dp_address *from)
{
    uint8_t data[512];
    size_t len;
    dp_dns_writer w;
    dp_dns_start(&w, data, sizeof data, 0x1234, false);
    dp_dns_write_question(&w, name, type, unicast);
    assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
    input(node, data, len, from);
}

/* An answer of somebody else's, to node 0. */
static void answer(const char *name, const char *ip, uint32_t ttl, bool flush)
{
    uint8_t data[512];
    size_t len;
    dp_dns_writer w;
    dp_address a = address(ip, 0);
    dp_dns_start(&w, data, sizeof data, 0, true);
    dp_dns_write_address(&w, name, &a, ttl, flush);
    assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
    input(0, data, len, &locals[1]);
}

static void query(const char *name) { assert_int_equal(dp_mdns_query(nodes[0], now, name), DP_OK); }

static void publish(const char *name, const char *ip)
{
    dp_address a = address(ip, 0);
    assert_int_equal(dp_mdns_publish(nodes[1], now, name, &a), DP_OK);
}

static void read_last(dp_dns_message *m)
{
    assert_int_equal(dp_dns_read_header(m, last.data, last.len), DP_OK);
}

/* ---- asking ---- */

static void question_on_the_wire(void **state)
{
    (void)state;
    static const uint8_t expected[] = "\0\0\0\0\0\1\0\0\0\0\0\0\1X\5local\0\0\1\0\1"; /* RFC 6762 §18 */
    query("X.local");
    assert_true(next(0));
    assert_int_equal(last.len, sizeof expected - 1);
    assert_memory_equal(last.data, expected, last.len);
    dp_address group = address("224.0.0.251", 5353);
    assert_true(dp_address_equal(&last.remote, &group));
    assert_true(dp_address_equal(&last.local, &locals[0]));
    assert_true(next(0)); /* AAAA, in a message of its own: Chromium ignores those of two questions */
    assert_int_equal(last.len, sizeof expected - 1);
    assert_int_equal(last.data[last.len - 3], DP_DNS_AAAA);
    assert_false(next(0));
}

static void finds_a_name(void **state)
{
    (void)state;
    dp_mdns_result r;
    publish(NAME, "10.0.0.2");
    exchange();
    query(NAME);
    assert_no_result();
    advance(DP_SECONDS(1)); /* the announcement was less than a second ago */
    assert_int_equal(result(&r, NAME), 1);
    assert_ip(&r.addresses[0], "10.0.0.2");
    assert_no_result();
    dp_mdns_free(nodes[0]); /* somebody new, later: at once, for the answer says that there is no AAAA */
    dp_mdns_config config = {.size = sizeof config, .random = {seeded, &seed}};
    assert_int_equal(dp_mdns_new(&nodes[0], &config), DP_OK);
    assert_int_equal(dp_mdns_add_socket(nodes[0], now, &locals[0]), DP_OK);
    advance(DP_SECONDS(10));
    query(NAME);
    exchange();
    assert_int_equal(result(&r, NAME), 1);
}

/* As Chromium 156 answers a question for A. Its NSEC, which says that there is no AAAA, has the name in full. */
#define WIRE_NAME                                                                                            \
    "\x24"                                                                                                   \
    "968425d5-f3c7-43ad-9710-95aa3904a9a7"                                                                   \
    "\5local\0"
static const uint8_t chromium[] =
    "\0\0\x84\0\0\0\0\1\0\0\0\1" WIRE_NAME "\0\1\x80\1\0\0\0\x78\0\4\x0A\x4D\0\1" WIRE_NAME
    "\0\x2F\x80\1\0\0\0\x78\0\5\xC0\x46\0\1\x40";

static void repeats_then_gives_up(void **state)
{
    (void)state;
    dp_mdns_result r;
    query(NAME);
    assert_int_equal(drop(0), 2);
    query(NAME); /* not asked for twice */
    assert_int_equal(drop(0), 0);
    static const dp_duration rounds[] = {DP_SECONDS(1), DP_SECONDS(2)};
    for (size_t i = 0; i < 2; i++) {
        dp_time at = dp_mdns_next_timeout(nodes[0]);
        assert_in_range(at - now, rounds[i], rounds[i] + DP_MS(100));
        now = at - 1;
        dp_mdns_handle_timeout(nodes[0], now);
        assert_int_equal(drop(0), 0);
        now = at;
        dp_mdns_handle_timeout(nodes[0], now);
        assert_int_equal(drop(0), 2);
        assert_no_result();
    }
    now = dp_mdns_next_timeout(nodes[0]);
    assert_in_range(now - START, DP_SECONDS(5), DP_SECONDS(5) + DP_MS(300));
    dp_mdns_handle_timeout(nodes[0], now);
    assert_int_equal(drop(0), 0);
    assert_int_equal(result(&r, NAME), 0);
    assert_int_equal(dp_mdns_next_timeout(nodes[0]), DP_TIME_NEVER);
    query(NAME); /* nothing is remembered of the failure */
    assert_int_equal(drop(0), 2);
}

static void chromiums_answer(void **state)
{
    (void)state;
    dp_mdns_result r;
    query(NAME);
    drop(0);
    for (size_t len = 0; len < sizeof chromium - 1; len++)
        input(0, chromium, len, &locals[1]);
    assert_no_result(); /* the address came through at some length; for the rest it waited */
    input(0, chromium, sizeof chromium - 1, &locals[1]);
    assert_int_equal(result(&r, NAME), 1);
    assert_ip(&r.addresses[0], "10.77.0.1");
}

static void waits_for_the_other_family(void **state)
{
    (void)state;
    dp_mdns_result r;
    query(NAME);
    drop(0);
    answer(NAME, "10.0.0.7", 120, true);
    assert_no_result();
    assert_int_equal(dp_mdns_next_timeout(nodes[0]), now + DP_MS(50));
    now += DP_MS(20);
    answer(NAME, "2001:db8::7", 120, true);
    assert_int_equal(result(&r, NAME), 2);
    assert_ip(&r.addresses[0], "10.0.0.7");
    assert_ip(&r.addresses[1], "2001:db8::7");
    query(OTHER);
    drop(0);
    answer(OTHER, "10.0.0.8", 120, true);
    now += DP_MS(50);
    dp_mdns_handle_timeout(nodes[0], now);
    assert_int_equal(drop(0), 0);
    assert_int_equal(result(&r, OTHER), 1);
}

static void cache(void **state)
{
    (void)state;
    dp_mdns_result r;
    query(NAME);
    drop(0);
    answer(NAME, "10.0.0.7", 0x7FFFFFFF, true); /* a forged eternity counts as 120 s */
    advance(DP_MS(50));
    assert_int_equal(result(&r, NAME), 1);
    advance(DP_SECONDS(119));
    query(NAME);
    assert_int_equal(result(&r, NAME), 1);
    assert_int_equal(drop(0), 0);
    now += DP_SECONDS(1);
    query(NAME);
    assert_no_result();
    assert_int_equal(drop(0), 2);
}

static void goodbye_and_flush(void **state)
{
    (void)state;
    dp_mdns_result r;
    query(NAME);
    drop(0);
    answer(NAME, "10.0.0.7", 120, true);
    answer(NAME, "10.0.0.6", 120, true); /* within a second: of the same set (RFC 6762 §10.2) */
    advance(DP_MS(50));
    assert_int_equal(result(&r, NAME), 2);
    advance(DP_SECONDS(2));
    answer(NAME, "10.0.0.8", 120, true); /* voids the older ones in a second */
    answer(NAME, "10.0.0.9", 0, true);   /* says goodbye to something unknown */
    query(NAME);
    assert_int_equal(result(&r, NAME), 3);
    advance(DP_SECONDS(1));
    query(NAME);
    assert_int_equal(result(&r, NAME), 1);
    assert_ip(&r.addresses[0], "10.0.0.8");
    answer(NAME, "10.0.0.8", 0, true);
    query(NAME); /* RFC 6762 §10.1: others may still say that it is there */
    assert_int_equal(result(&r, NAME), 1);
    advance(DP_SECONDS(1));
    query(NAME);
    assert_no_result();
}

static void denied_family(void **state)
{
    (void)state;
    query(NAME);
    drop(0);
    for (uint32_t ttl = 0; ttl <= 120; ttl += 120) {
        uint8_t data[512];
        size_t len;
        dp_dns_writer w;
        dp_dns_start(&w, data, sizeof data, 0, true);
        dp_dns_write_nsec(&w, NAME, true, false, ttl);
        assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
        input(0, data, len, &locals[1]);
        now = dp_mdns_next_timeout(nodes[0]);
        dp_mdns_handle_timeout(nodes[0], now);
        assert_int_equal(drop(0), ttl == 0 ? 2 : 1); /* only the address is asked for again */
        assert_no_result();
    }
}

static void forged_answers(void **state)
{
    (void)state;
    uint8_t data[512];
    size_t len;
    dp_dns_writer w;
    dp_address a = address("10.0.0.7", 0);
    dp_address odd_port = address("10.0.0.2", 5354);
    dp_address elsewhere = address("10.0.0.9", 5353);
    dp_address other_family = address("fe80::1", 5353);
    dp_mdns_result r;
    query(NAME);
    drop(0);
    answer(OTHER, "10.0.0.7", 120, true); /* nobody asked */
    query(OTHER);
    assert_int_equal(drop(0), 2);
    dp_dns_start(&w, data, sizeof data, 0, true);
    dp_dns_write_address(&w, NAME, &a, 120, true);
    assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
    input(0, data, len, &odd_port);
    input(0, data, len, &other_family);
    dp_mdns_input(nodes[0], now, data, len, &elsewhere, &locals[1]); /* no socket of ours */
    data[3] = 3;                                                     /* rcode: NXDOMAIN */
    input(0, data, len, &locals[1]);
    data[3] = 0;
    data[2] |= 0x08; /* opcode 1 */
    input(0, data, len, &locals[1]);
    data[2] = 0x84;
    data[len - 4 - 2 - 4 - 1] = 3; /* class CHAOS */
    input(0, data, len, &locals[1]);
    data[len - 4 - 2 - 4 - 1] = 1;
    advance(DP_MS(60));
    assert_no_result();
    input(0, data, len, &locals[1]); /* and it would have been a good one */
    advance(DP_MS(60));
    assert_int_equal(result(&r, NAME), 1);
}

static void useless_addresses(void **state)
{
    (void)state;
    static const char *const useless[] = {"0.0.0.0",        "127.0.0.1", "224.0.0.251", "255.255.255.255",
                                          "240.0.0.1",      "::",        "::1",         "ff02::fb",
                                          "::ffff:10.0.0.1"};
    dp_mdns_result r;
    query(NAME);
    drop(0);
    for (size_t i = 0; i < sizeof useless / sizeof useless[0]; i++) {
        dp_address a = address(useless[i], 0);
        answer(NAME, useless[i], 120, true);
        assert_int_equal(dp_mdns_publish(nodes[0], now, OTHER, &a), DP_ERR_INVALID_ARGUMENT);
    }
    for (unsigned i = 1; i <= DP_MDNS_MAX_ADDRESSES + 3; i++) { /* and no more than there is room for */
        char ip[32];
        snprintf(ip, sizeof ip, "10.0.1.%u", i);
        answer(NAME, ip, 120, false);
    }
    advance(DP_MS(50));
    assert_int_equal(result(&r, NAME), DP_MDNS_MAX_ADDRESSES);
    for (size_t i = 0; i < r.count; i++)
        assert_int_equal(r.addresses[i].ip[2], 1);
}

static void link_local_scope(void **state)
{
    (void)state;
    dp_mdns_result r;
    dp_address v6 = address("fe80::1", 5353);
    dp_address from = address("fe80::2", 5353);
    v6.scope = from.scope = 7;
    assert_int_equal(dp_mdns_add_socket(nodes[0], now, &v6), DP_OK);
    query(NAME);
    assert_int_equal(drop(0), 4);
    dp_address group = address("ff02::fb", 5353);
    assert_true(dp_address_equal(&last.remote, &group));
    assert_int_equal(last.remote.scope, 7);
    locals[0] = v6;
    locals[1] = from;
    answer(NAME, "fe80::2", 120, true);
    answer(NAME, "2001:db8::2", 120, false);
    advance(DP_MS(50));
    assert_int_equal(result(&r, NAME), 2);
    assert_int_equal(r.addresses[0].scope, 7);
    assert_int_equal(r.addresses[1].scope, 0);
}

static void limits(void **state)
{
    (void)state;
    char name[32];
    dp_mdns_result r;
    size_t in_flight = 0;
    int err = DP_OK;
    for (unsigned i = 0; err == DP_OK; i++) {
        snprintf(name, sizeof name, "n%u.local", i);
        err = dp_mdns_query(nodes[0], now, name);
        in_flight += err == DP_OK;
    }
    assert_int_equal(err, DP_ERR_LIMIT);
    assert_int_equal(in_flight, 32);
    advance(DP_SECONDS(6));
    while (dp_mdns_poll_result(nodes[0], &r))
        in_flight--;
    assert_int_equal(in_flight, 0);
    for (unsigned i = 0; i < 200; i++) { /* all are found, few are remembered */
        snprintf(name, sizeof name, "n%u.local", i);
        query(name);
        drop(0);
        answer(name, "10.0.0.7", 120, true);
        advance(DP_MS(50));
        assert_int_equal(result(&r, name), 1);
    }
    size_t cached = 0;
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "n%u.local", 199 - i); /* the youngest */
        if (dp_mdns_query(nodes[0], now, name) != DP_OK || !dp_mdns_poll_result(nodes[0], &r))
            break;
        cached++;
    }
    assert_int_equal(cached, 64);
    for (unsigned i = 0; i < 64; i++) {
        snprintf(name, sizeof name, "p%u.local", i);
        publish(name, "10.0.0.2");
    }
    dp_address a = address("10.0.0.2", 0);
    assert_int_equal(dp_mdns_publish(nodes[1], now, NAME, &a), DP_ERR_LIMIT);
    assert_in_range(drop(1), 2, 16); /* many in a message */
    assert_int_equal(dp_mdns_withdraw(nodes[1], now, "p3.local"), DP_OK);
    publish(NAME, "10.0.0.2"); /* a goodbye gives way */
    dp_mdns *mdns = nodes[1];
    for (unsigned i = 3; i < 33; i++) {
        snprintf(name, sizeof name, "10.1.0.%u", i);
        a = address(name, 5353);
        assert_int_equal(dp_mdns_add_socket(mdns, now, &a), DP_OK);
        assert_int_equal(dp_mdns_add_socket(mdns, now, &a), DP_OK); /* known */
    }
    a = address("10.1.0.33", 5353);
    assert_int_equal(dp_mdns_add_socket(mdns, now, &a), DP_OK);
    a = address("10.1.0.34", 5353);
    assert_int_equal(dp_mdns_add_socket(mdns, now, &a), DP_ERR_LIMIT);
}

static void bad_names(void **state)
{
    (void)state;
    char label64[] = "0123456789012345678901234567890123456789012345678901234567890123.local";
    char name[300];
    const char *const bad[] = {"",         "local",     ".local",         "x",         "x.localx", "x.local.",
                               "a..local", "a b.local", "\xC3\xA4.local", "192.0.2.1", label64,    name};
    dp_address a = address("10.0.0.1", 0);
    memset(name, 'a', sizeof name);
    for (size_t i = 31; i < 250; i += 32)
        name[i] = '.';
    memcpy(name + 248, ".local", 7); /* 254 characters */
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(dp_mdns_query(nodes[0], now, bad[i]), DP_ERR_INVALID_ARGUMENT);
        assert_int_equal(dp_mdns_publish(nodes[0], now, bad[i], &a), DP_ERR_INVALID_ARGUMENT);
    }
    query(name + 1); /* 253: the longest */
    assert_true(next(0));
    assert_int_equal(last.len, DP_DNS_HEADER_LEN + 255 + 4);
    assert_int_equal(dp_mdns_query(nodes[0], now, "X.LOCAL"), DP_OK);
}

static void sockets_come_and_go(void **state)
{
    (void)state;
    dp_address second = address("10.1.0.1", 5353);
    publish(NAME, "10.9.9.9"); /* of no socket: told on all */
    publish(OTHER, "10.0.0.2");
    assert_int_equal(drop(1), 1);
    assert_int_equal(dp_mdns_add_socket(nodes[1], now, &second), DP_OK);
    assert_int_equal(drop(1), 1);
    assert_true(dp_address_equal(&last.local, &second));
    dp_dns_message m;
    read_last(&m);
    assert_int_equal(m.answers, 1); /* the other name belongs to the other interface */
    ask(1, OTHER, DP_DNS_A, false, &locals[0]);
    dp_mdns_remove_socket(nodes[1], &locals[1]);
    assert_int_equal(dp_mdns_next_timeout(nodes[1]), DP_TIME_NEVER); /* nothing waits for what is gone */
    ask(1, OTHER, DP_DNS_A, false, &locals[0]);
    advance(DP_SECONDS(2));
    assert_int_equal(drop(1), 0);
    query(NAME);
    dp_mdns_remove_socket(nodes[0], &locals[0]);
    assert_int_equal(drop(0), 0);
    assert_int_equal(dp_mdns_add_socket(nodes[0], now, &second), DP_OK);
    assert_int_equal(drop(0), 2);
}

/* ---- answering ---- */

static void announcement_and_goodbye(void **state)
{
    (void)state;
    dp_dns_message m;
    dp_dns_record r;
    dp_dns_question q;
    publish(NAME, "10.0.0.2");
    assert_int_equal(drop(1), 1);
    dp_address group = address("224.0.0.251", 5353);
    assert_true(dp_address_equal(&last.remote, &group));
    read_last(&m);
    assert_int_equal(last.data[2], 0x84); /* RFC 6762 §18.4: authoritative */
    assert_true(m.response && m.id == 0 && m.answers == 1 && m.records == 2);
    assert_false(dp_dns_next_question(&m, &q));
    assert_true(dp_dns_next_record(&m, &r));
    assert_string_equal(r.name, NAME);
    assert_true(r.type == DP_DNS_A && r.class_ == DP_DNS_IN && r.flush && r.ttl == 120 && r.answer);
    assert_ip(&r.address, "10.0.0.2");
    assert_true(dp_dns_next_record(&m, &r)); /* RFC 6762 §6.1: and there is no AAAA */
    assert_string_equal(r.name, NAME);
    assert_true(r.type == DP_DNS_NSEC && r.has_a && !r.has_aaaa && r.ttl == 120 && !r.answer);
    assert_false(dp_dns_next_record(&m, &r) || m.rd.error);
    publish(NAME, "10.0.0.2"); /* nothing new */
    assert_int_equal(drop(1), 0);
    assert_int_equal(dp_mdns_withdraw(nodes[1], now, NAME), DP_OK);
    assert_int_equal(dp_mdns_withdraw(nodes[1], now, NAME), DP_ERR_NOT_FOUND);
    dp_address resolver = address("10.0.0.1", 40000);
    ask(1, NAME, DP_DNS_A, false, &resolver);
    assert_int_equal(drop(1), 1);
    read_last(&m);
    assert_true(dp_dns_next_record(&m, &r));
    assert_true(r.type == DP_DNS_A && r.ttl == 0 && m.records == 0);
    ask(1, NAME, DP_DNS_A, false, &locals[0]);
    assert_int_equal(drop(1), 0);
    publish(NAME, "10.0.0.2");
    assert_int_equal(dp_mdns_withdraw(nodes[1], now, NAME), DP_OK); /* nobody has heard of it */
    assert_int_equal(drop(1), 0);
    assert_int_equal(dp_mdns_next_timeout(nodes[1]), DP_TIME_NEVER);
}

/* The longest names still leave whole, few in a message. */
static void long_names(void **state)
{
    (void)state;
    char name[DP_DNS_NAME_MAX + 1];
    size_t records = 0;
    for (unsigned i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "%063u.%063u.%063u.%055u.local", i, i, i, i);
        assert_int_equal(strlen(name), DP_DNS_NAME_MAX);
        publish(name, "10.0.0.2");
    }
    while (next(1)) {
        dp_dns_message m;
        dp_dns_record r;
        read_last(&m);
        while (dp_dns_next_record(&m, &r))
            records += r.type == DP_DNS_A;
        assert_false(m.rd.error);
    }
    assert_int_equal(records, 10);
}

static void both_families(void **state)
{
    (void)state;
    dp_mdns_result r;
    publish(NAME, "10.0.0.2");
    publish(NAME, "2001:db8::2");
    drop(1);
    advance(DP_SECONDS(2));
    query(NAME);
    exchange();
    assert_int_equal(result(&r, NAME), 2);
    advance(DP_SECONDS(2));
    ask(1, NAME, DP_DNS_AAAA, false, &locals[0]);
    assert_int_equal(drop(1), 1);
    dp_dns_message m;
    read_last(&m);
    assert_true(m.answers == 1 && m.records == 1); /* what was asked for, and no NSEC */
}

static void once_a_second(void **state) /* RFC 6762 §6 */
{
    (void)state;
    publish(NAME, "10.0.0.2");
    drop(1);
    size_t count = 0;
    for (int i = 0; i < 300; i++) { /* 3 s */
        now += DP_MS(10);
        ask(1, NAME, i % 2 == 0 ? DP_DNS_A : DP_DNS_AAAA, false, &locals[0]);
        dp_mdns_handle_timeout(nodes[1], now);
        count += drop(1);
    }
    assert_int_equal(count, 3);
    assert_int_equal(dp_mdns_next_timeout(nodes[1]), DP_TIME_NEVER);
}

static void known_answers(void **state) /* RFC 6762 §7.1 */
{
    (void)state;
    publish(NAME, "10.0.0.2");
    drop(1);
    for (unsigned i = 0; i < 5; i++) {
        uint8_t data[512];
        size_t len;
        dp_dns_writer w;
        dp_address a = address(i == 2 ? "10.0.0.3" : "10.0.0.2", 0);
        advance(DP_SECONDS(2));
        dp_dns_start(&w, data, sizeof data, 0, false);
        dp_dns_write_question(&w, NAME, i == 3 ? DP_DNS_AAAA : DP_DNS_A, false);
        dp_dns_write_address(&w, NAME, &a, i == 1 ? 59 : 60, false);
        assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
        if (i == 4) { /* in the authority section: what a probe wants to have */
            data[7] = 0;
            data[9] = 1;
        }
        input(1, data, len, &locals[0]);
        assert_int_equal(drop(1), i == 0 ? 0 : 1); /* old, wrong, or not what was asked for: answered */
    }
}

static void unicast_wanted(void **state) /* RFC 6762 §5.4 */
{
    (void)state;
    publish(NAME, "10.0.0.2");
    drop(1);
    now += DP_SECONDS(29);
    ask(1, NAME, DP_DNS_A, true, &locals[0]);
    assert_int_equal(drop(1), 1);
    assert_true(dp_address_equal(&last.remote, &locals[0]));
    dp_dns_message m;
    read_last(&m);
    assert_true(m.id == 0 && m.questions == 0 && m.answers == 1);
    now += DP_SECONDS(1); /* a quarter of the TTL since the others have heard it */
    ask(1, NAME, DP_DNS_A, true, &locals[0]);
    assert_int_equal(drop(1), 1);
    assert_int_equal(last.remote.ip[0], 224);
}

static void plain_resolver(void **state) /* RFC 6762 §6.7 */
{
    (void)state;
    dp_address resolver = address("10.0.0.1", 40000);
    dp_dns_message m;
    dp_dns_question q;
    dp_dns_record r;
    publish(NAME, "10.0.0.2");
    drop(1);
    ask(1, NAME, DP_DNS_A, false, &resolver);
    assert_int_equal(drop(1), 1);
    assert_true(dp_address_equal(&last.remote, &resolver));
    read_last(&m);
    assert_int_equal(m.id, 0x1234);
    assert_true(dp_dns_next_question(&m, &q));
    assert_string_equal(q.name, NAME);
    assert_true(q.type == DP_DNS_A && q.class_ == DP_DNS_IN && !q.unicast);
    assert_true(dp_dns_next_record(&m, &r));
    assert_true(r.ttl == 10 && !r.flush && m.records == 0);
    ask(1, NAME, DP_DNS_AAAA, false, &resolver);
    assert_int_equal(drop(1), 1);
    read_last(&m);
    assert_true(m.questions == 1 && m.records == 0);
    ask(1, OTHER, DP_DNS_A, false, &resolver);
    ask(1, NAME, 16 /* TXT */, false, &resolver);
    resolver.port = 0;
    ask(1, NAME, DP_DNS_A, false, &resolver);
    assert_int_equal(drop(1), 0);
    resolver.port = 40000;
    now += DP_SECONDS(1);
    for (int i = 0; i < 1000; i++) /* forged sources: a victim gets a few */
        ask(1, NAME, DP_DNS_A, false, &resolver);
    assert_int_equal(drop(1), 16);
    now += DP_MS(999);
    ask(1, NAME, DP_DNS_A, false, &resolver);
    assert_int_equal(drop(1), 0);
    now += DP_MS(1);
    ask(1, NAME, DP_DNS_A, false, &resolver);
    assert_int_equal(drop(1), 1);
}

static void no_answer_to_answers(void **state)
{
    (void)state;
    uint8_t data[512];
    size_t len;
    dp_dns_writer w;
    publish(NAME, "10.0.0.2");
    drop(1);
    now += DP_SECONDS(2);
    dp_dns_start(&w, data, sizeof data, 0, true);
    dp_dns_write_question(&w, NAME, DP_DNS_A, false);
    assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
    input(1, data, len, &locals[0]);
    assert_int_equal(drop(1), 0);
    data[2] = 0;
    data[len - 1] = 3; /* class CHAOS */
    input(1, data, len, &locals[0]);
    assert_int_equal(drop(1), 0);
    data[len - 1] = 1;
    data[2] = 0x02; /* a query, truncated (TC): its known answers would follow, the question stands */
    input(1, data, len, &locals[0]);
    assert_int_equal(drop(1), 1);
}

static void many_questions(void **state)
{
    (void)state;
    static uint8_t data[DP_DNS_MESSAGE_MAX + 1];
    size_t len = 0;
    dp_dns_writer w;
    publish(NAME, "10.0.0.2");
    drop(1);
    now += DP_SECONDS(2);
    dp_dns_start(&w, data, sizeof data, 0, false);
    for (int i = 0; i < 1000; i++)
        dp_dns_write_question(&w, NAME, DP_DNS_A, false);
    assert_int_equal(dp_dns_finish(&w, &len), DP_OK);
    input(1, data, len, &locals[0]);
    assert_int_equal(drop(1), 1);
    now += DP_SECONDS(2);
    input(1, data, len - 1, &locals[0]);     /* cut off: not answered, though the first question is whole */
    input(1, data, sizeof data, &locals[0]); /* RFC 6762 §17: too long */
    assert_int_equal(drop(1), 0);
}

/* ---- memory ---- */

static long fail_at;
static void *failing_alloc(void *ctx, size_t size)
{
    (void)ctx;
    return fail_at > 0 && --fail_at == 0 ? NULL : malloc(size);
}
static void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    return fail_at > 0 && --fail_at == 0 ? NULL : realloc(old, size);
}
static void failing_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

static void no_memory(void **state)
{
    (void)state;
    static const dp_allocator failing = {failing_alloc, failing_realloc, failing_free, NULL};
    dp_mdns_config config = {.size = sizeof config, .random = {seeded, &seed}};
    dp_address a = address("10.0.0.2", 0);
    dp_address resolver = address("10.0.0.1", 40000);
    teardown(state);
    dp_set_allocator(&failing);
    for (long n = 1; n <= 4; n++) {
        fail_at = n;
        int err[3] = {dp_mdns_new(&nodes[1], &config), DP_OK, DP_OK};
        if (err[0] == DP_OK) {
            assert_int_equal(dp_mdns_add_socket(nodes[1], now, &locals[1]), DP_OK);
            err[1] = dp_mdns_query(nodes[1], now, NAME);
            err[2] = dp_mdns_publish(nodes[1], now, OTHER, &a);
            size_t others = drop(1);
            ask(1, OTHER, DP_DNS_A, false, &resolver); /* a reply that can't be kept is lost */
            assert_int_equal(drop(1), n == 4 ? 0 : err[2] == DP_OK);
            assert_int_equal(others, (err[1] == DP_OK ? 2 : 0) + (err[2] == DP_OK ? 1 : 0));
            dp_mdns_free(nodes[1]);
        }
        for (long i = 0; i < 3; i++)
            assert_int_equal(err[i], i + 1 == n ? DP_ERR_NO_MEMORY : DP_OK);
    }
    fail_at = 0;
    dp_set_allocator(NULL);
    config.random.fn = NULL;
    assert_int_equal(dp_mdns_new(&nodes[0], &config), DP_ERR_INVALID_ARGUMENT);
    setup(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(question_on_the_wire),
        TEST(finds_a_name),
        TEST(repeats_then_gives_up),
        TEST(chromiums_answer),
        TEST(waits_for_the_other_family),
        TEST(cache),
        TEST(goodbye_and_flush),
        TEST(denied_family),
        TEST(forged_answers),
        TEST(useless_addresses),
        TEST(link_local_scope),
        TEST(limits),
        TEST(bad_names),
        TEST(sockets_come_and_go),
        TEST(announcement_and_goodbye),
        TEST(long_names),
        TEST(both_families),
        TEST(once_a_second),
        TEST(known_answers),
        TEST(unicast_wanted),
        TEST(plain_resolver),
        TEST(no_answer_to_answers),
        TEST(many_questions),
        TEST(no_memory),
    };
    return cmocka_run_group_tests_name("ice/mdns", tests, NULL, NULL);
}
