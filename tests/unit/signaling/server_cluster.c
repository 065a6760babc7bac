/* A server that is one of several: what it asks of the cluster, which is a list of texts here, and what it makes of answers
 * that are late, wrong or hostile. */
#include "server_world.h"

static char said[64][512]; /* what the cluster was told, in order */
static size_t said_count, said_at;
static bool refuses; /* it can't be asked */
static uint64_t last_ticket;

static bool note(const char *format, ...) DP_PRINTF(1, 2);
static bool note(const char *format, ...)
{
    va_list args;
    if (refuses)
        return false;
    assert_true(said_count < 64);
    va_start(args, format);
    vsnprintf(said[said_count++], sizeof(said[0]), format, args);
    va_end(args);
    return true;
}

static bool fake_claim(void *ctx, const char *id, const char *proof, uint64_t stamp, bool renew)
{
    (void)ctx;
    assert_int_equal(strlen(proof), 64);
    assert_int_equal(strspn(proof, "0123456789abcdef"), 64);
    last_ticket = stamp;
    return note("%s %s %.8s", renew ? "renew" : "claim", id, proof);
}
static void fake_release(void *ctx, const char *id, uint64_t stamp)
{
    (void)ctx;
    (void)note("release %s %llu", id, (unsigned long long)stamp);
}
static bool fake_forward(void *ctx, const char *src, const char *dst, const char *letter, size_t len,
                         dp_signal_absent absent)
{
    (void)ctx;
    static const char *const names[] = {"drop", "tell", "keep"};
    return note("forward %s %s %s [%.*s]", src, dst, names[absent], (int)len, letter);
}
static bool fake_withdraw(void *ctx, const char *dst)
{
    (void)ctx;
    return note("withdraw %s", dst);
}
static bool fake_list(void *ctx, uint64_t ticket)
{
    (void)ctx;
    last_ticket = ticket;
    return note("list");
}

static const dp_signal_cluster fake = {.time_offset = 1000000,
                                       .claim = fake_claim,
                                       .release = fake_release,
                                       .forward = fake_forward,
                                       .withdraw = fake_withdraw,
                                       .list = fake_list};

static dp_signal_server_config node_config(void)
{
    dp_signal_server_config c = config();
    said_count = said_at = 0;
    refuses = false;
    last_ticket = 0;
    c.cluster = &fake;
    c.allow_discovery = true;
    return c;
}

static void start_node(void)
{
    dp_signal_server_config c = node_config();
    start(&c);
    dp_signal_server_cluster_up(server, now);
}

static void expect_said(const char *text)
{
    if (said_at == said_count)
        fail_msg("nothing was said, not '%s'", text);
    assert_string_equal(said[said_at++], text);
}
static void expect_nothing_said(void)
{
    if (said_at < said_count)
        fail_msg("said: %s", said[said_at]);
}
static void expect_released(const char *id, uint64_t stamp)
{
    char text[128];
    snprintf(text, sizeof(text), "release %s %llu", id, (unsigned long long)stamp);
    expect_said(text);
}

static void verdict(const char *id, uint64_t stamp, dp_signal_verdict what)
{
    dp_signal_server_claimed(server, now, id, stamp, what);
    drain();
}

static void ask(stream *t, const char *id, const char *token)
{
    char target[256];
    snprintf(target, sizeof(target), "/peerjs?key=peerjs&id=%s&token=%s", id, token);
    upgrade(t, target);
    expect_upgraded(t);
    expect_silence(t);
}

/* Returns the stamp. */
static uint64_t join_node(stream *t, const char *id, const char *token)
{
    ask(t, id, token);
    uint64_t stamp = last_ticket;
    said_at = said_count;
    verdict(id, stamp, DP_SIGNAL_GRANTED);
    expect_text(t, "{\"type\":\"OPEN\"}");
    expect_nothing_said();
    return stamp;
}

static void letter(const char *text)
{
    size_t len = strlen(text);
    char *exact = malloc(len + 1);
    assert_non_null(exact);
    memcpy(exact, text, len);
    dp_signal_server_letter(server, now, exact, len);
    free(exact);
    drain();
}

static void fate(const char *src, const char *dst, dp_signal_fate what)
{
    dp_signal_server_forwarded(server, now, src, dst, 100, what);
    drain();
}

/* ---- joining ------------------------------------------------------------------------------------------ */

static void test_join_waits_for_the_answer(void **state)
{
    (void)state;
    stream a, b;
    start_node();
    ask(&a, "a", "1");
    expect_said("claim a 05a9c569"); /* SHA-256 of "a", a NUL and "1" */
    assert_int_equal(last_ticket, now + 1000000);
    uint64_t stamp = last_ticket;
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"a\"}"); /* early */
    input(&a, "\x81", 1);
    expect_silence(&a);
    assert_int_equal(joined, 0);
    verdict("b", stamp + 1, DP_SIGNAL_GRANTED); /* nobody asked that */
    verdict("b", stamp + 1, DP_SIGNAL_TAKEN);
    expect_silence(&a);
    verdict("a", stamp, DP_SIGNAL_GRANTED);
    expect_text(&a, "{\"type\":\"OPEN\"}");
    expect_text(&a, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"a\"}");
    expect_silence(&a);
    /* The frame goes on where it was. */
    static const char rest[] = "\x9a\0\0\0\0{\"type\":\"OFFER\",\"dst\":\"a\"}";
    input(&a, rest, sizeof(rest) - 1);
    expect_text(&a, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"a\"}");
    ask(&b, "a%20b", "1");
    expect_said("claim a b 6f58cef3");
    assert_int_equal(last_ticket, stamp + 1); /* in the same microsecond */
    end(&a);
    expect_released("a", stamp);
    end(&b);
    expect_released("a b", stamp + 1);
    assert_int_equal(stats().buffered, 0);
}

static void test_taken_elsewhere(void **state)
{
    (void)state;
    stream a;
    start_node();
    ask(&a, "a", "1");
    verdict("a", last_ticket, DP_SIGNAL_TAKEN);
    expect_text(&a, "{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}");
    expect_close(&a, 0);
    assert_int_equal(joined, 0);
    assert_int_equal(refused, 1);
    end(&a);
}

static void test_two_ask_for_one_id(void **state)
{
    (void)state;
    stream a, b;
    start_node();
    ask(&a, "x", "1");
    uint64_t first = last_ticket;
    ask(&b, "x", "2");
    uint64_t second = last_ticket;
    verdict("x", first, DP_SIGNAL_TAKEN);
    verdict("x", second, DP_SIGNAL_GRANTED);
    expect_text(&b, "{\"type\":\"OPEN\"}");
    expect_text(&a, "{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}");
    end(&a);
    end(&b);
}

static void test_no_answer(void **state)
{
    (void)state;
    stream a;
    start_node();
    ask(&a, "a", "1");
    pass(DP_MS(1999));
    expect_silence(&a);
    pass(DP_MS(1));
    expect_text(&a, "{\"type\":\"OPEN\"}");     /* as if there were no cluster */
    verdict("a", last_ticket, DP_SIGNAL_TAKEN); /* which finds out too late */
    expect_text(&a, "{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}");
    expect_close(&a, 0);
    assert_int_equal(left, 1);
    end(&a);
}

static void test_cluster_goes_while_it_is_asked(void **state)
{
    (void)state;
    stream a, b, c;
    start_node();
    ask(&a, "x", "1");
    ask(&b, "x", "2");
    refuses = true;
    dp_signal_server_cluster_down(server, now);
    drain();
    expect_text(&a, "{\"type\":\"OPEN\"}");
    expect_text(&b, "{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}");
    join(&c, "c", "1"); /* alone, it decides itself */
    assert_false(stats().cluster_up);
    end(&a);
    end(&b);
    end(&c);
}

static void test_asking_counts_for_the_limit(void **state)
{
    (void)state;
    stream a, b;
    dp_signal_server_config c = node_config();
    c.concurrent_limit = 1;
    start(&c);
    dp_signal_server_cluster_up(server, now);
    ask(&a, "a", "1");
    upgrade(&b, "/peerjs?key=peerjs&id=b&token=1");
    expect_upgraded(&b);
    expect_text(
        &b, "{\"type\":\"ERROR\",\"payload\":{\"msg\":\"Server has reached its concurrent user limit\"}}");
    end(&a);
    end(&b);
}

static void test_too_much_before_the_answer(void **state)
{
    (void)state;
    stream a;
    static uint8_t bytes[1 << 16];
    start_node();
    ask(&a, "a", "1");
    input(&a, bytes, sizeof(bytes));
    input(&a, bytes, sizeof(bytes));
    assert_non_null(a.conn);
    assert_in_range(stats().buffered, 2 * sizeof(bytes), 3 * sizeof(bytes));
    input(&a, bytes, 1);
    assert_null(a.conn);
    assert_int_equal(stats().buffered, 0);
    assert_int_equal(stats().connections, 0);
    end(&a);
}

static void test_takeover(void **state)
{
    (void)state;
    stream a, b, c;
    start_node();
    uint64_t first = join_node(&a, "x", "1");
    upgrade(&b, "/peerjs?key=peerjs&id=x&token=1"); /* here nobody need be asked */
    expect_upgraded(&b);
    expect_text(&b, "{\"type\":\"OPEN\"}");
    expect_close(&a, 1000);
    uint64_t second = last_ticket;
    assert_true(second > first);
    assert_memory_equal(said[said_at++], "claim x ", 8);
    expect_released("x", first);
    verdict("x", first, DP_SIGNAL_MOVED); /* says nothing of the one who is here now */
    verdict("x", second, DP_SIGNAL_GRANTED);
    expect_silence(&b);
    verdict("x", second, DP_SIGNAL_MOVED);
    expect_close(&b, 1000);
    assert_string_equal(last_reason, "it comes by another node");
    expect_released("x", second);
    join_node(&c, "x", "1");
    end(&a);
    end(&b);
    assert_int_equal(stats().clients, 1);
    end(&c);
}

/* ---- messages ------------------------------------------------------------------------------------------ */

static void test_forward(void **state)
{
    (void)state;
    stream a;
    start_node();
    join_node(&a, "a", "1");
    send_text(
        &a, "{\"type\":\"OFFER\",\"dst\":\"b\\\"\",\"src\":\"eve\",\"payload\": {\"x\":[1, \"\xc3\xb6\"]} }");
    expect_said("forward a b\" keep [0Oa\nb\"\n{\"x\":[1, \"\xc3\xb6\"]}]");
    send_text(&a, "{\"type\":\"LEAVE\",\"dst\":\"b\"}");
    expect_said("forward a b drop [0La\nb\n]");
    fate("a", "b\"", DP_SIGNAL_SENT);
    fate("a", "b", DP_SIGNAL_LOST);
    expect_silence(&a);
    fate("a", "b", DP_SIGNAL_RETURNED);
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"b\",\"dst\":\"a\"}");
    assert_int_equal(stats().forwarded, 1);
    assert_int_equal(stats().dropped, 2);
    refuses = true; /* then it is kept here */
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"b\"}");
    expect_silence(&a);
    pass(DP_SECONDS(5));
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"b\",\"dst\":\"a\"}");
    refuses = false;
    end(&a);
}

static void test_kept_outside(void **state)
{
    (void)state;
    stream a, b;
    start_node();
    join_node(&a, "a", "1");
    for (int i = 0; i < 3; i++)
        fate(i < 2 ? "a" : "far", "b", DP_SIGNAL_KEPT);
    assert_int_equal(stats().absent, 1);
    assert_int_equal(stats().buffered, 300);
    pass(DP_MS(4999));
    expect_nothing_said();
    pass(DP_MS(1));
    expect_said("withdraw b");
    expect_silence(&a);
    assert_int_equal(stats().buffered, 0);
    dp_signal_server_returned(server, now, "a", "b");
    dp_signal_server_returned(server, now, "far", "b"); /* its letter had come here after it had left */
    drain();
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"b\",\"dst\":\"a\"}");
    expect_silence(&a);
    expect_said("forward b far drop [0Eb\nfar\n]");
    /* What waits outside comes from there when b joins. */
    fate("a", "b", DP_SIGNAL_KEPT);
    join_node(&b, "b", "1");
    letter("0Oa\nb\n1");
    expect_text(&b, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\",\"payload\":1}");
    pass(DP_SECONDS(6));
    expect_nothing_said();
    /* If the cluster is away when the time has come, nobody knows: so it has expired. */
    fate("a", "c", DP_SIGNAL_KEPT);
    refuses = true;
    pass(DP_SECONDS(5));
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"c\",\"dst\":\"a\"}");
    refuses = false;
    end(&a);
    end(&b);
}

/* Nobody may leave more outside than here. */
static void test_what_is_kept_outside_is_bounded(void **state)
{
    (void)state;
    stream a;
    start_node();
    join_node(&a, "a", "1");
    for (int i = 0; i < 64; i++)
        fate("a", "b", DP_SIGNAL_KEPT);
    expect_silence(&a);
    fate("a", "b", DP_SIGNAL_KEPT);
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"b\",\"dst\":\"a\"}");
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"b\"}");
    expect_said("forward a b tell [0Oa\nb\n]");
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"c\"}");
    expect_said("forward a c keep [0Oa\nc\n]");
    end(&a);
}

static void test_letters(void **state)
{
    (void)state;
    stream a;
    start_node();
    join_node(&a, "a", "1");
    letter("1Ob\"\na\n {\"x\":1} ");
    expect_text(&a, "{\"type\":\"OFFER\",\"src\":\"b\\\"\",\"dst\":\"a\",\"payload\": {\"x\":1} }");
    letter("0Eb\na\n");
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"b\",\"dst\":\"a\"}");
    /* a has gone meanwhile: it is followed, but not for ever. */
    letter("0Cb\nc\n1");
    expect_said("forward b c keep [1Cb\nc\n1]");
    letter("2Lb\nc\n");
    expect_said("forward b c drop [3Lb\nc\n]");
    letter("3Cb\nc\n1");
    expect_nothing_said();
    assert_int_equal(stats().letters, 5);
    assert_int_equal(stats().dropped, 1);
    assert_int_equal(stats().garbage, 0);
    end(&a);
}

static void test_garbage(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "",
        "0",
        "0O",
        "0Ob",
        "0Ob\n",
        "0Ob\na",
        "0O\na\n1",
        "0Ob\n\n1",
        "4Ob\na\n1",
        "/Ob\na\n1",
        "0Xb\na\n1",
        "0Hb\na\n1",
        "0Ob\na\n1 2",
        "0Ob\na\n{",
        "0Ob\na\n1\n",
        "0Ob\x01\na\n1",
        "0Ob\r\na\n1",
        "0Ob\xff\na\n1",
        "0Ob\na\n\"\xc3\"",
        "0Ob\na\n ",
        "hello",
    };
    stream a;
    start_node();
    join_node(&a, "a", "1");
    size_t expected = 0;
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        bool good = strcmp(garbage[i], "0Ob\na\n1\n") == 0; /* blanks around JSON are JSON */
        letter(garbage[i]);
        expected += !good;
        if (good)
            expect_text(&a, "{\"type\":\"OFFER\",\"src\":\"b\",\"dst\":\"a\",\"payload\":1\n}");
        expect_silence(&a);
        assert_int_equal(stats().garbage, expected);
    }
    static char big[1 << 17];
    memset(big, ' ', sizeof(big) - 1);
    memcpy(big, "0Ob\na\n1", 7);
    big[6 + (1 << 16)] = '\0'; /* a payload of 64 KiB... */
    letter(big);
    assert_int_equal(stats().garbage, expected);
    a.got_at = a.got_len;
    big[6 + (1 << 16)] = ' ';
    big[7 + (1 << 16)] = '\0'; /* ...and one more */
    letter(big);
    assert_int_equal(stats().garbage, ++expected);
    char id[300];
    memset(id, 'i', sizeof(id));
    memcpy(id, "0O", 2);
    memcpy(id + sizeof(id) - 4, "\na\n", 4);
    letter(id);
    assert_int_equal(stats().garbage, ++expected);
    dp_signal_server_letter(server, now, NULL, 0);
    assert_int_equal(stats().garbage, ++expected);
    expect_silence(&a);
    expect_nothing_said();
    end(&a);
}

/* ---- who is there --------------------------------------------------------------------------------------- */

#define GET_PEERS "GET /peerjs/peers HTTP/1.1\r\nHost: h\r\n\r\n"

static void test_list(void **state)
{
    (void)state;
    static const char *const ids[] = {"a", "b\"", "", "c\n", "\xff", "d"};
    stream t, u;
    start_node();
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t, GET_PEERS "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /heal");
    expect_said("list");
    expect_silence(&t); /* one answer after the other */
    assert_int_equal(open_from(&u, "192.0.2.1"), DP_OK);
    say(&u, GET_PEERS GET_PEERS);
    expect_nothing_said(); /* it is being asked */
    uint64_t ticket = last_ticket;
    dp_signal_server_listed(server, now, ticket - 1, ids, 6); /* nobody asked that */
    drain();
    expect_silence(&t);
    dp_signal_server_listed(server, now, ticket, ids, 6);
    drain();
    const char *text = answer(&t);
    assert_non_null(strstr(text, "\r\n\r\n[\"a\",\"b\\\"\",\"d\"]HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nok\n"));
    expect_answer(&u, "HTTP/1.1 200 OK\r\n", "\r\n\r\n[\"a\",\"b\\\"\",\"d\"]");
    assert_int_equal(stats().garbage, 3);
    expect_said("list"); /* for u's next request */
    dp_signal_server_listed(server, now, ticket, ids, 6);
    drain();
    expect_silence(&u);
    say(&t, "thz HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_answer(&t, "HTTP/1.1 200 OK\r\n", "\r\n\r\nok\n");
    pass(DP_SECONDS(2)); /* no answer */
    expect_answer(&u, "HTTP/1.1 200 OK\r\n", "\r\n\r\n[]");
    dp_signal_server_listed(server, now, last_ticket, ids, 6); /* at last, but nobody waits any more */
    said_at = said_count;
    say(&u, GET_PEERS);
    dp_signal_server_cluster_down(server, now);
    drain();
    expect_answer(&u, "HTTP/1.1 200 OK\r\n", "\r\n\r\n[]");
    say(&u, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    expect_answer(&u, "HTTP/1.1 200 OK\r\n", "ok, but no other node can be reached\n");
    end(&t);
    end(&u);
    assert_int_equal(stats().buffered, 0);
}

/* ---- up and down ---------------------------------------------------------------------------------------- */

static void test_comes_back(void **state)
{
    (void)state;
    stream a, b;
    start_node();
    uint64_t stamp = join_node(&a, "a", "1");
    fate("a", "old", DP_SIGNAL_KEPT);
    dp_signal_server_cluster_down(server, now);
    join(&b, "b", "2");
    send_text(&b, "{\"type\":\"OFFER\",\"dst\":\"far\",\"payload\":{\"x\":1}}");
    send_text(&b, "{\"type\":\"CANDIDATE\",\"dst\":\"far\"}");
    expect_nothing_said();
    assert_int_equal(stats().absent, 2);
    dp_signal_server_cluster_up(server, now);
    bool a_first = strncmp(said[said_at], "renew a ", 8) == 0; /* in any order */
    assert_memory_equal(said[said_at++], a_first ? "renew a " : "renew b ", 8);
    assert_memory_equal(said[said_at++], a_first ? "renew b " : "renew a ", 8);
    expect_said("forward b far keep [0Ob\nfar\n{\"x\":1}]");
    expect_said("forward b far keep [0Cb\nfar\n]");
    expect_nothing_said();
    assert_int_equal(stats().absent, 1);
    assert_int_equal(stats().buffered, 100);
    verdict("a", stamp, DP_SIGNAL_MOVED);
    expect_close(&a, 1000);
    expect_silence(&b);
    end(&a);
    end(&b);
}

static void test_arguments(void **state)
{
    (void)state;
    dp_signal_server_config c = config();
    for (int i = 0; i < 5; i++) {
        dp_signal_cluster broken = fake;
        c.cluster = &broken;
        broken.claim = i == 0 ? NULL : broken.claim;
        broken.release = i == 1 ? NULL : broken.release;
        broken.forward = i == 2 ? NULL : broken.forward;
        broken.withdraw = i == 3 ? NULL : broken.withdraw;
        broken.list = i == 4 ? NULL : broken.list;
        assert_int_equal(dp_signal_server_new(&server, &c), DP_ERR_INVALID_ARGUMENT);
    }
    c.cluster = NULL;
    start(&c);
    dp_signal_server_cluster_up(server, now); /* there is none */
    assert_false(stats().cluster_up);
}

/* Its owner may have freed the cluster before. */
static void test_freed_without_a_word(void **state)
{
    stream a, b;
    start_node();
    join_node(&a, "a", "1");
    ask(&b, "b", "1");
    said_at = said_count;
    stop(state);
    expect_nothing_said();
    free(a.got);
    free(b.got);
}

static void test_shutdown_while_asked(void **state)
{
    (void)state;
    stream a, t;
    start_node();
    ask(&a, "a", "1");
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t, GET_PEERS GET_PEERS);
    dp_signal_server_shutdown(server, now);
    drain();
    expect_text(&a, "{\"type\":\"OPEN\"}");
    expect_close(&a, 1001);
    expect_answer(&t, "HTTP/1.1 200 OK\r\n", "\r\n\r\n[\"a\"]");
    assert_null(t.conn);
    end(&a);
    end(&t);
    assert_int_equal(done, 1);
}

/* ---- memory ---------------------------------------------------------------------------------------------- */

static unsigned long countdown, live;

static void *failing_alloc(void *ctx, size_t size)
{
    (void)ctx;
    if (countdown > 0 && --countdown == 0)
        return NULL;
    live++;
    return malloc(size);
}
static void *failing_realloc(void *ctx, void *old, size_t size)
{
    if (old == NULL)
        return failing_alloc(ctx, size);
    return countdown > 0 && --countdown == 0 ? NULL : realloc(old, size);
}
static void failing_free(void *ctx, void *block)
{
    (void)ctx;
    live -= block != NULL;
    free(block);
}

static void run_session(void)
{
    static const char *const ids[] = {"a", "b"};
    stream streams[3];
    dp_address remote = {.family = DP_FAMILY_IPV4, .ip = {192, 0, 2, 1}};
    dp_signal_server_config c = node_config();
    memset(streams, 0, sizeof(streams));
    server = NULL;
    if (dp_signal_server_new(&server, &c) != DP_OK)
        return;
    dp_signal_server_cluster_up(server, now);
    for (int i = 0; i < 3; i++) {
        if (dp_signal_server_accept(&streams[i].conn, server, now, &remote, &streams[i]) != DP_OK)
            streams[i].conn = NULL;
        char text[512];
        snprintf(text, sizeof(text), "GET /peerjs?key=peerjs&id=%d&token=1" WS_HEADERS, i);
        say(&streams[i], i < 2 ? text : GET_PEERS GET_PEERS);
        send_text(&streams[i], "{\"type\":\"OFFER\",\"dst\":\"far\"}");
        if (i < 2)
            verdict(i == 0 ? "0" : "1", last_ticket, DP_SIGNAL_GRANTED);
        else
            dp_signal_server_listed(server, now, last_ticket, ids, 2);
        drain();
    }
    fate("0", "far", DP_SIGNAL_KEPT);
    letter("0Ofar\n0\n1");
    dp_signal_server_cluster_down(server, now);
    send_text(&streams[0], "{\"type\":\"OFFER\",\"dst\":\"gone\"}");
    dp_signal_server_cluster_up(server, now);
    pass(DP_SECONDS(6));
    for (int i = 0; i < 3; i++)
        end(&streams[i]);
    assert_int_equal(stats().buffered, 0);
    assert_int_equal(stats().clients, 0);
}

static void test_nth_allocation_fails(void **state)
{
    (void)state;
    static const dp_allocator failing = {failing_alloc, failing_realloc, failing_free, NULL};
    dp_set_allocator(&failing);
    unsigned long n = 0;
    do {
        countdown = ++n;
        live = 0;
        run_session();
        stop(NULL);
        assert_int_equal(live, 0);
    } while (countdown == 0 && n < 1000);
    countdown = 0;
    dp_set_allocator(NULL);
    assert_in_range(n, 25, 999);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, stop)
    const struct CMUnitTest tests[] = {
        TEST(test_join_waits_for_the_answer),
        TEST(test_taken_elsewhere),
        TEST(test_two_ask_for_one_id),
        TEST(test_no_answer),
        TEST(test_cluster_goes_while_it_is_asked),
        TEST(test_asking_counts_for_the_limit),
        TEST(test_too_much_before_the_answer),
        TEST(test_takeover),
        TEST(test_forward),
        TEST(test_kept_outside),
        TEST(test_what_is_kept_outside_is_bounded),
        TEST(test_letters),
        TEST(test_garbage),
        TEST(test_list),
        TEST(test_comes_back),
        TEST(test_arguments),
        TEST(test_freed_without_a_word),
        TEST(test_shutdown_while_asked),
        TEST(test_nth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
