/* Clients of the server: joining, what is passed on, queues, limits, and frames that are hostile. */
#include "server_world.h"

#include <datapeer/signal_server.h>

static frame f;

#define ERROR_OF(msg) "{\"type\":\"ERROR\",\"payload\":{\"msg\":\"" msg "\"}}"

static void test_relay(void **state)
{
    (void)state;
    stream a, b;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "alice", "1");
    join(&b, "b%C3%B6b", "2");
    static const char *const types[] = {"OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"};
    for (size_t i = 0; i < 5; i++) {
        char text[128], expected[128];
        /* Row 68: a src of its own is not believed. */
        snprintf(text, sizeof(text),
                 "{\"src\":\"eve\",\"dst\":\"b\xc3\xb6"
                 "b\",\"x\":1,\"payload\":{ \"p\":[1]},\"type\":\"%s\"}",
                 types[i]);
        snprintf(expected, sizeof(expected),
                 "{\"type\":\"%s\",\"src\":\"alice\",\"dst\":\"b\xc3\xb6"
                 "b\",\"payload\":{ \"p\":[1]}}",
                 types[i]);
        send_text(&a, text);
        expect_text(&b, expected);
    }
    send_text(&b, "{\"type\":\"OFFER\",\"dst\":\"b\xc3\xb6"
                  "b\"}"); /* to oneself */
    expect_text(&b, "{\"type\":\"OFFER\",\"src\":\"b\xc3\xb6"
                    "b\",\"dst\":\"b\xc3\xb6"
                    "b\"}");
    expect_silence(&a);
    uint8_t binary[64];
    static const char text[] = "{\"type\":\"OFFER\",\"dst\":\"alice\"}";
    input(&b, binary, put_frame(binary, FIN | BINARY, true, text, sizeof(text) - 1));
    expect_text(&a, "{\"type\":\"OFFER\",\"src\":\"b\xc3\xb6"
                    "b\",\"dst\":\"alice\"}");
    assert_int_equal(stats().relayed, 7);
    end(&a);
    end(&b);
    assert_int_equal(left, 2);
}

static void test_nonsense_is_ignored(void **state)
{
    (void)state;
    static const char *const nonsense[] = {"",
                                           "null",
                                           "5",
                                           "[]",
                                           "{",
                                           "{\"type\":\"OPEN\",\"dst\":\"a\"}",
                                           "{\"type\":\"OFFER\"}",
                                           "{\"dst\":\"a\"}",
                                           "{\"type\":\"OFFER\",\"dst\":\"a\\u0000\"}"};
    stream a;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    for (size_t i = 0; i < 9; i++)
        send_text(&a, nonsense[i]);
    expect_silence(&a);
    assert_non_null(a.conn);
    assert_int_equal(stats().dropped, 9);
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"a\"}");
    expect_text(&a, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"a\"}");
    end(&a);
}

static void expect_refusal(const char *target, const char *text)
{
    stream t;
    unsigned before = refused;
    upgrade(&t, target);
    expect_upgraded(&t);
    expect_text(&t, text);
    expect_close(&t, 0);
    assert_int_equal(refused, before + 1);
    assert_non_null(t.conn); /* its close frame is waited for */
    send_text(&t, "{\"type\":\"OFFER\",\"dst\":\"a\"}");
    expect_silence(&t);
    uint8_t close[16];
    input(&t, close, put_frame(close, FIN | CLOSE, true, "", 0));
    expect_silence(&t);
    assert_null(t.conn);
    end(&t);
}

/* Rows 67 and 69. */
static void test_refusals(void **state)
{
    (void)state;
    stream a;
    dp_signal_server_config c = config();
    c.concurrent_limit = 1;
    start(&c);
#define MISSING ERROR_OF("No id, token, or key supplied to websocket server")
    expect_refusal("/peerjs?key=peerjs&id=a", MISSING);
    expect_refusal("/peerjs?key=peerjs&id=&token=t", MISSING);
    expect_refusal("/peerjs?id=a&token=t", MISSING);
    expect_refusal("/peerjs?key=peerjs&id=a%00&token=t", MISSING);
    expect_refusal("/peerjs?key=peerjs&id=a%1B[31m&token=t", MISSING);
    expect_refusal("/peerjs?key=peerjs&id=a%ff&token=t", MISSING);
    expect_refusal("/peerjs?key=PEERJS&id=a&token=t", ERROR_OF("Invalid key provided"));
    join(&a, "a", "secret");
    expect_refusal("/peerjs?key=peerjs&id=a&token=secre",
                   "{\"type\":\"ID-TAKEN\",\"payload\":{\"msg\":\"ID is taken\"}}");
    expect_refusal("/peerjs?key=peerjs&id=b&token=t",
                   ERROR_OF("Server has reached its concurrent user limit"));
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"a\"}"); /* it is not disturbed */
    expect_text(&a, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"a\"}");
    end(&a);
    join(&a, "b", "t");
    end(&a);
}

static void test_takeover(void **state)
{
    (void)state;
    stream a, again, b;
    dp_signal_server_config c = config();
    c.concurrent_limit = 2;
    start(&c);
    join(&a, "a", "1");
    join(&b, "b", "1");
    join(&again, "a", "1"); /* also when the server is full */
    expect_close(&a, 1000);
    send_text(&b, "{\"type\":\"OFFER\",\"dst\":\"a\"}");
    expect_text(&again, "{\"type\":\"OFFER\",\"src\":\"b\",\"dst\":\"a\"}");
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"b\"}");
    expect_silence(&b);
    end(&a); /* the new one stays */
    assert_int_equal(stats().clients, 2);
    end(&again);
    end(&b);
}

static void test_leave_frees_the_id(void **state)
{
    (void)state;
    stream a, other;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    send_text(&a, "{\"type\":\"LEAVE\"}");
    assert_int_equal(left, 1);
    assert_string_equal(last_reason, "it said LEAVE");
    assert_non_null(a.conn);
    join(&other, "a", "2");
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"a\"}"); /* not in another's name */
    expect_silence(&other);
    end(&a);
    assert_int_equal(stats().clients, 1);
    end(&other);
}

/* ---- absent peers ---- */

static void test_queue(void **state)
{
    (void)state;
    stream a, b;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"b\",\"payload\":1}");
    send_text(&a, "{\"type\":\"LEAVE\",\"dst\":\"b\"}");
    send_text(&a, "{\"type\":\"CANDIDATE\",\"dst\":\"b\",\"payload\":2}");
    pass(DP_SECONDS(5) - 1);
    join(&b, "b", "1");
    expect_text(&b, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\",\"payload\":1}");
    expect_text(&b, "{\"type\":\"CANDIDATE\",\"src\":\"a\",\"dst\":\"b\",\"payload\":2}");
    expect_silence(&b);
    pass(DP_SECONDS(6));
    expect_silence(&a);
    assert_int_equal(stats().absent, 0);
    end(&a);
    end(&b);
}

static void test_expire(void **state)
{
    (void)state;
    stream a, b, gone;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    join(&b, "b", "1");
    join(&gone, "c", "1");
    for (int i = 0; i < 3; i++) {
        send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"x\"}");
        send_text(&b, "{\"type\":\"OFFER\",\"dst\":\"x\"}");
        send_text(&gone, "{\"type\":\"OFFER\",\"dst\":\"x\"}");
    }
    end(&gone);
    pass(DP_SECONDS(5) - 1);
    expect_silence(&a);
    pass(1);
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"x\",\"dst\":\"a\"}");
    expect_text(&b, "{\"type\":\"EXPIRE\",\"src\":\"x\",\"dst\":\"b\"}");
    expect_silence(&a);
    expect_silence(&b);
    assert_int_equal(expired, 1);
    assert_int_equal(stats().expired, 9);
    assert_int_equal(stats().buffered, 0);
    end(&a);
    end(&b);
}

/* Row 70. */
static void test_flood_to_absent_ids(void **state)
{
    (void)state;
    stream a;
    char text[128];
    dp_signal_server_config c = config();
    c.message_rate = UINT32_MAX;
    start(&c);
    join(&a, "a", "1");
    for (int i = 0; i < 65; i++)
        send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"x\"}");
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"x\",\"dst\":\"a\"}"); /* the 65th, at once */
    expect_silence(&a);
    for (int i = 0; i < 5000; i++) {
        snprintf(text, sizeof(text), "{\"type\":\"OFFER\",\"dst\":\"x%d\"}", i);
        send_text(&a, text);
    }
    assert_int_equal(stats().absent, 4096);
    assert_int_equal(stats().dropped, 1 + 5000 - 4095);
    pass(DP_SECONDS(5));
    assert_int_equal(stats().absent, 0);
    assert_int_equal(stats().buffered, 0);
    end(&a);
}

static void test_queue_is_bounded_in_bytes(void **state)
{
    (void)state;
    static char text[60000];
    stream a;
    int n = snprintf(text, sizeof(text), "{\"type\":\"OFFER\",\"dst\":\"x\",\"payload\":\"");
    memset(text + n, 'p', 50000);
    memcpy(text + n + 50000, "\"}", 3);
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    for (int i = 0; i < 6; i++)
        send_text(&a, text);
    assert_in_range(stats().buffered, 5 * 50000, 1 << 18);
    expect_text(&a, "{\"type\":\"EXPIRE\",\"src\":\"x\",\"dst\":\"a\"}");
    expect_silence(&a);
    end(&a);
}

/* ---- time ---- */

static void test_alive_timeout(void **state)
{
    (void)state;
    stream a, b;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    join(&b, "b", "1");
    for (int i = 0; i < 10; i++) {
        pass(DP_SECONDS(20));
        send_text(&b, "{\"type\":\"HEARTBEAT\"}");
        /* Only that counts. */
        send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"b\"}");
        if (i == 3) {
            assert_int_equal(stats().clients, 2);
            pass(DP_SECONDS(10) - 1);
            expect_silence(&a);
            pass(1);
            expect_close(&a, 0);
            assert_string_equal(last_reason, "it sent no heartbeat");
            assert_int_equal(stats().clients, 1);
            pass(DP_SECONDS(3)); /* and it does not answer */
            assert_null(a.conn);
        }
    }
    assert_non_null(b.conn);
    expect_text(&b, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\"}");
    end(&a);
    end(&b);
}

static void test_shutdown(void **state)
{
    (void)state;
    stream a, b, http;
    uint8_t close[16];
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    join(&b, "b", "1");
    assert_int_equal(open_from(&http, "192.0.2.1"), DP_OK);
    dp_signal_server_shutdown(server, now);
    drain();
    assert_null(http.conn);
    expect_close(&a, 1001);
    expect_close(&b, 1001);
    stream late;
    assert_int_equal(open_from(&late, "192.0.2.1"), DP_ERR_CLOSED);
    input(&a, close, put_frame(close, FIN | CLOSE, true, "\x03\xe9", 2));
    assert_null(a.conn);
    assert_int_equal(done, 0);
    pass(DP_SECONDS(3)); /* b says nothing */
    assert_null(b.conn);
    assert_int_equal(done, 1);
    end(&a);
    end(&b);
    end(&http);
}

/* ---- limits ---- */

/* Asks for an id from this address; whether it got one. */
static bool gets_an_id(const char *ip)
{
    stream t;
    assert_int_equal(open_from(&t, ip), DP_OK);
    say(&t, "GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n");
    const char *text = answer(&t);
    bool got = strncmp(text, "HTTP/1.1 200 ", 13) == 0;
    if (!got)
        assert_memory_equal(text, "HTTP/1.1 429 ", 13);
    assert_true(got == (t.conn != NULL)); /* else closed */
    end(&t);
    return got;
}

static void test_connection_rate(void **state)
{
    (void)state;
    dp_signal_server_config c = config();
    c.connection_rate = 1;
    c.connection_burst = 3;
    start(&c);
    for (int i = 0; i < 3; i++)
        assert_true(gets_an_id("2001:db8::1"));
    assert_false(gets_an_id("2001:db8::2")); /* of the same subscriber */
    assert_true(gets_an_id("2001:db8:0:1::1"));
    assert_true(gets_an_id("192.0.2.1"));
    now += DP_SECONDS(1);
    assert_true(gets_an_id("2001:db8::1"));
    assert_false(gets_an_id("2001:db8::1"));
    assert_int_equal(stats().refused, 2);
}

/* One connection may ask for more: that is what the rate of messages is for. */
static void test_connection_is_charged_once(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    c.connection_rate = 1;
    c.connection_burst = 1;
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    for (int i = 0; i < 5; i++) {
        say(&t, "GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n");
        expect_answer(&t, "HTTP/1.1 200 ", "");
    }
    end(&t);
    assert_false(gets_an_id("192.0.2.1"));
}

/* What brings nothing but garbage costs its address nothing; what may be a guess at a secret does. */
static void test_garbage_is_not_charged(void **state)
{
    (void)state;
    static const char no_version[] = "GET /peerjs?key=peerjs&id=a&token=t HTTP/1.1\r\n"
                                     "Host: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    static const char *const garbage[] = {"",
                                          "GET",
                                          "\x16\x03\x01",
                                          "nonsense\r\n\r\n",
                                          "GET / HTTP/1.1\r\n\r\n",
                                          "GET /no HTTP/1.1\r\nHost: h\r\n\r\n",
                                          no_version};
    stream t;
    dp_signal_server_config c = config();
    c.connection_rate = 1;
    c.connection_burst = 4;
    c.access_token = "secret";
    c.allow_discovery = true;
    start(&c);
    for (size_t i = 0; i < 5 * sizeof(garbage) / sizeof(garbage[0]); i++) {
        assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
        say(&t, garbage[i / 5]);
        end(&t);
    }
    for (int i = 0; i < 10; i++) {
        join(&t, "a", "secret1");
        input(&t, "garbage", 7);
        assert_string_equal(last_reason, "it broke the protocol");
        end(&t);
    }
    for (int i = 0; i < 10; i++) {
        upgrade(&t, "/peerjs?key=peerjs&id=a");
        assert_string_equal(last_reason, "no id, token or key, or one that can't be");
        end(&t);
    }
    join(&t, "a", "secret1"); /* the first of four */
    stream guess;
    upgrade(&guess, "/peerjs?key=peerjs&id=b&token=wrong");
    expect_upgraded(&guess);
    assert_string_equal(last_reason, "no access token");
    input(&guess, "garbage", 7); /* gives nothing back */
    end(&guess);
    upgrade(&guess, "/peerjs?key=peerjs&id=a&token=secret2");
    expect_upgraded(&guess);
    assert_string_equal(last_reason, "the id is taken");
    end(&guess);
    assert_int_equal(open_from(&guess, "192.0.2.1"), DP_OK);
    say(&guess, "GET /peerjs/peers HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer wrong\r\n\r\n");
    expect_answer(&guess, "HTTP/1.1 401 ", "");
    end(&guess);
    assert_false(gets_an_id("192.0.2.1"));
    end(&t);
}

/* Garbage behind what was served is no reason. */
static void test_served_is_charged(void **state)
{
    (void)state;
    stream t;
    dp_signal_server_config c = config();
    c.connection_rate = 1;
    c.connection_burst = 3;
    start(&c);
    assert_int_equal(open_from(&t, "192.0.2.1"), DP_OK);
    say(&t, "GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n");
    say(&t, "nonsense\r\n\r\n");
    end(&t);
    join(&t, "a", "1");
    send_text(&t, "{\"type\":\"HEARTBEAT\"}");
    input(&t, "garbage", 7);
    end(&t);
    join(&t, "a", "1");
    send_text(&t, "{\"type\":\"OFFER\",\"dst\":\"b\"}");
    input(&t, "garbage", 7);
    end(&t);
    assert_false(gets_an_id("192.0.2.1"));
}

static void test_noisy_client(void **state)
{
    (void)state;
    stream a;
    dp_signal_server_config c = config();
    c.message_rate = 10;
    c.message_burst = 20;
    start(&c);
    join(&a, "a", "1");
    for (int i = 0; i < 19; i++) /* the upgrade was one, too */
        send_text(&a, "{\"type\":\"HEARTBEAT\"}");
    now += DP_SECONDS(1) / 10;
    send_text(&a, "{\"type\":\"HEARTBEAT\"}");
    expect_silence(&a);
    send_text(&a, "{\"type\":\"HEARTBEAT\"}");
    expect_close(&a, 1008);
    assert_int_equal(stats().clients, 0);
    end(&a);
}

static void test_slow_reader(void **state)
{
    (void)state;
    static char text[60000];
    stream a, b;
    int n = snprintf(text, sizeof(text), "{\"type\":\"OFFER\",\"dst\":\"b\",\"payload\":\"");
    memset(text + n, 'p', 50000);
    memcpy(text + n + 50000, "\"}", 3);
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    join(&b, "b", "1");
    b.holds = true;
    dp_signal_server_pause(server, b.conn);
    for (int i = 0; i < 5; i++)
        send_text(&a, text);
    expect_silence(&b);
    assert_non_null(b.conn);
    b.holds = false;
    dp_signal_server_resume(server, b.conn);
    drain();
    for (int i = 0; i < 5; i++) {
        assert_true(next_frame(&b, &f));
        assert_int_equal(f.len,
                         50000 + strlen("{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\",\"payload\":\"\"}"));
    }
    assert_false(next_frame(&b, &f));
    assert_int_equal(stats().buffered, 0);
    b.holds = true;
    dp_signal_server_pause(server, b.conn);
    for (int i = 0; i < 6; i++)
        send_text(&a, text);
    assert_null(b.conn);
    assert_string_equal(last_reason, "it reads too slowly");
    assert_int_equal(stats().cut, 1);
    assert_int_equal(stats().absent, 1); /* what could not be given waits for it */
    end(&b);
    join(&b, "b", "1");
    assert_true(next_frame(&b, &f));
    end(&a);
    end(&b);
}

static void test_total_buffer(void **state)
{
    (void)state;
    enum { READERS = 8 };
    static stream readers[READERS];
    static char text[60000];
    stream a;
    char id[8];
    dp_signal_server_config c = config();
    c.total_buffer = 300000;
    start(&c);
    join(&a, "a", "1");
    for (int i = 0; i < READERS; i++) {
        snprintf(id, sizeof(id), "r%d", i);
        join(&readers[i], id, "1");
        readers[i].holds = true;
        dp_signal_server_pause(server, readers[i].conn);
        int n = snprintf(text, sizeof(text), "{\"type\":\"OFFER\",\"dst\":\"%s\",\"payload\":\"", id);
        memset(text + n, 'p', 50000);
        memcpy(text + n + 50000, "\"}", 3);
        send_text(&a, text);
        assert_true(stats().buffered <= 300000);
    }
    assert_true(stats().cut > 0);
    assert_non_null(a.conn);
    for (int i = 0; i < READERS; i++)
        end(&readers[i]);
    end(&a);
}

static void send_large(stream *from, const char *dst)
{
    static char text[60000];
    int n = snprintf(text, sizeof(text), "{\"type\":\"OFFER\",\"dst\":\"%s\",\"payload\":\"", dst);
    memset(text + n, 'p', 50000);
    memcpy(text + n + 50000, "\"}", 3);
    send_text(from, text);
}

/* Who does not read loses its place, not who needs room when there is none. */
static void test_greediest_is_cut(void **state)
{
    (void)state;
    stream flood, hoarder, page, a, b;
    dp_signal_server_config c = config();
    c.total_buffer = 300000;
    start(&c);
    join(&flood, "flood", "1");
    join(&hoarder, "hoarder", "1");
    join(&a, "a", "1");
    join(&b, "b", "1");
    hoarder.holds = b.holds = true;
    dp_signal_server_pause(server, hoarder.conn);
    dp_signal_server_pause(server, b.conn);
    for (int i = 0; i < 4; i++)
        send_large(&flood, "hoarder");
    send_large(&a, "b");
    assert_non_null(hoarder.conn);
    send_large(&a, "b");
    assert_null(hoarder.conn);
    assert_string_equal(last_reason, "it reads too slowly");
    assert_non_null(b.conn);
    /* The same by requests that nobody reads the answers of. */
    assert_int_equal(open_from(&page, "192.0.2.1"), DP_OK);
    page.holds = true;
    dp_signal_server_pause(server, page.conn);
    while (page.conn != NULL && stats().requests < 2000)
        say(&page, "GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n");
    b.holds = false;
    dp_signal_server_resume(server, b.conn);
    drain();
    assert_true(next_frame(&b, &f));
    assert_true(next_frame(&b, &f));
    send_large(&a, "b");
    assert_true(next_frame(&b, &f));
    assert_true(stats().buffered <= c.total_buffer);
    end(&flood);
    end(&hoarder);
    end(&page);
    end(&a);
    end(&b);
}

/* A message that comes in parts needs room, too. */
static void test_greediest_is_cut_for_a_part(void **state)
{
    (void)state;
    enum { LEN = 60000 };
    static char text[LEN + 1];
    static uint8_t bytes[LEN + 16];
    stream hoarder, a, b;
    dp_signal_server_config c = config();
    c.total_buffer = 250000;
    start(&c);
    join(&hoarder, "hoarder", "1");
    join(&a, "a", "1");
    join(&b, "b", "1");
    hoarder.holds = true;
    dp_signal_server_pause(server, hoarder.conn);
    for (int i = 0; i < 4; i++)
        send_large(&b, "hoarder");
    memset(text, ' ', LEN);
    memcpy(text, "{\"type\":\"OFFER\",\"dst\":\"b\"}", 26);
    size_t len = put_frame(bytes, FIN | TEXT, true, text, LEN);
    input(&a, bytes, len - 1);
    assert_null(hoarder.conn);
    input(&a, bytes + len - 1, 1);
    expect_text(&b, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\"}");
    end(&hoarder);
    end(&a);
    end(&b);
}

/* What waits for those who never come takes no more than half of the room. */
static void test_absent_leave_room(void **state)
{
    (void)state;
    stream flood, a, b;
    char dst[8];
    dp_signal_server_config c = config();
    c.total_buffer = 300000;
    start(&c);
    join(&flood, "flood", "1");
    join(&a, "a", "1");
    join(&b, "b", "1");
    for (int i = 0; i < 10; i++) {
        snprintf(dst, sizeof(dst), "x%d", i);
        send_large(&flood, dst);
    }
    assert_int_equal(stats().absent, 2);
    assert_true(next_frame(&flood, &f)); /* EXPIRE */
    send_large(&a, "b");
    assert_true(next_frame(&b, &f));
    assert_int_equal(stats().cut, 0);
    end(&flood);
    end(&a);
    end(&b);
}

static void test_crowd_of_silent_connections(void **state)
{
    (void)state;
    static stream crowd[1100];
    stream honest;
    dp_signal_server_config c = config();
    c.connection_rate = UINT32_MAX;
    start(&c);
    for (int i = 0; i < 1100; i++) {
        assert_int_equal(open_from(&crowd[i], "198.51.100.1"), DP_OK);
        say(&crowd[i], "GET");
    }
    assert_null(crowd[0].conn); /* the oldest made room */
    assert_non_null(crowd[1099].conn);
    join(&honest, "honest", "1");
    assert_int_equal(stats().connections, 1024);
    end(&honest);
    for (int i = 0; i < 1100; i++)
        end(&crowd[i]);
}

/* ---- frames ---- */

static void expect_end_in_pieces(const void *bytes, size_t len, size_t step, unsigned code)
{
    stream a;
    join(&a, "a", "1");
    for (size_t i = 0; i < len; i += step)
        input(&a, (const uint8_t *)bytes + i, len - i < step ? len - i : step);
    expect_close(&a, code);
    assert_int_equal(stats().clients, 0);
    send_text(&a, "{\"type\":\"OFFER\",\"dst\":\"a\"}"); /* nothing more is read */
    expect_silence(&a);
    pass(DP_SECONDS(3) - 1); /* or it might not see why */
    assert_non_null(a.conn);
    input(&a, "\xff\xff", 2); /* which gives it no more time */
    expect_silence(&a);
    pass(1);
    assert_null(a.conn);
    end(&a);
}

static void expect_end(const void *bytes, size_t len, unsigned code)
{
    expect_end_in_pieces(bytes, len, 1, code);
    expect_end_in_pieces(bytes, len, len, code);
}

/* Rows 60 to 64. */
static void test_broken_frames(void **state)
{
    (void)state;
    static uint8_t bytes[1 << 17];
    static char zeros[70000];
    dp_signal_server_config c = config();
    c.message_rate = UINT32_MAX;
    start(&c);
    expect_end(bytes, put_frame(bytes, FIN | TEXT, false, "hi", 2), 1002);
    expect_end(bytes, put_frame(bytes, FIN | PING, true, zeros, 126), 1002);
    expect_end(bytes, put_frame(bytes, FIN | 0x40 | TEXT, true, "hi", 2), 1002);
    expect_end(bytes, put_frame(bytes, FIN | 3, true, "hi", 2), 1002);
    expect_end(bytes, put_frame(bytes, FIN, true, "hi", 2), 1002);
    expect_end(bytes, put_frame(bytes, FIN | TEXT, true, zeros, 65536), 1009);
    size_t n = put_frame(bytes, TEXT, true, "a\xe2\x82", 3);
    n += put_frame(bytes + n, FIN, true, "x", 1);
    expect_end(bytes, n, 1007);
    n = put_frame(bytes, TEXT, true, "a", 1);
    n += put_frame(bytes + n, FIN | TEXT, true, "b", 1);
    expect_end(bytes, n, 1002);
    n = put_frame(bytes, TEXT, true, "", 0);
    while (n < sizeof(bytes) - 16)
        n += put_frame(bytes + n, 0, true, zeros, 10);
    expect_end(bytes, n, 1009);
    /* A length of 5 in three bytes (RFC 6455 §5.2): the accounting of frames relies on its refusal. */
    static const uint8_t overlong[] = {0x81, 0xFE, 0, 5, 0, 0, 0, 0, 'h', 'e', 'l', 'l', 'o'};
    expect_end(overlong, sizeof(overlong), 1002);
}

static void test_pings_and_close(void **state)
{
    (void)state;
    uint8_t bytes[64];
    stream a;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    input(&a, bytes, put_frame(bytes, FIN | PING, true, "abc", 3));
    assert_true(next_frame(&a, &f));
    assert_int_equal(f.first, FIN | PONG);
    assert_string_equal(f.payload, "abc");
    input(&a, bytes, put_frame(bytes, FIN | CLOSE, true, "\x03\xe8", 2));
    expect_close(&a, 1000);
    assert_string_equal(last_reason, "it closed");
    pass(DP_SECONDS(3));
    assert_null(a.conn);
    end(&a);
}

static void test_flood_of_pings(void **state)
{
    (void)state;
    static uint8_t bytes[100000];
    stream a;
    size_t n = 0;
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    a.holds = true;
    dp_signal_server_pause(server, a.conn);
    while (n < 4000)
        n += put_frame(bytes + n, FIN | PING, true, "", 0);
    for (int i = 0; i < 250; i++)
        input(&a, bytes, n);
    assert_string_equal(last_reason, "it reads too slowly");
    assert_null(a.conn);
    end(&a);
    join(&a, "a", "1"); /* all at once: 2 bytes of pong for 6 */
    size_t pings = (sizeof(bytes) - 16) / 6;
    for (size_t i = n = 0; i < pings; i++)
        n += put_frame(bytes + n, FIN | PING, true, "", 0);
    input(&a, bytes, n);
    assert_int_equal(a.got_len - a.got_at, 2 * pings);
    end(&a);
    stop(NULL);
    c.client_buffer = 2 * pings - 1;
    start(&c);
    join(&a, "a", "1");
    input(&a, bytes, n);
    assert_string_equal(last_reason, "it reads too slowly");
    end(&a);
}

static void put_message(uint8_t *bytes, size_t *len, const char *text)
{
    *len += put_frame(bytes + *len, FIN | TEXT, true, text, strlen(text));
}

/* Whole messages, one in pieces, a ping between its pieces, all cut anywhere: what is read by one reader or the other comes
 * in the same order. */
static void test_many_frames_in_two_pieces(void **state)
{
    (void)state;
    static uint8_t bytes[2048];
#define LONG                                                                                                 \
    "two, and its length takes 16 bits: 0123456789012345678901234567890123456789012345678901234567890123456" \
    "\xC3\xA9"
    static const char *const expected[] = {
        "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\",\"payload\":1}",
        ("{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\",\"payload\":\"" LONG "\"}"),
        "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\",\"payload\":3}",
        "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\",\"payload\":4}",
    };
    static const char third[] = "{\"type\":\"OFFER\",\"dst\":\"b\",\"payload\":3}";
    size_t len = 0;
    stream a, b;
    dp_signal_server_config c = config();
    c.message_rate = UINT32_MAX;
    start(&c);
    put_message(bytes, &len, "{\"type\":\"OFFER\",\"dst\":\"b\",\"payload\":1}");
    put_message(bytes, &len, "{\"type\":\"OFFER\",\"dst\":\"b\",\"payload\":\"" LONG "\"}");
#undef LONG
    len += put_frame(bytes + len, TEXT, true, third, 7);
    len += put_frame(bytes + len, FIN | PING, true, "p", 1);
    len += put_frame(bytes + len, FIN, true, third + 7, sizeof(third) - 8);
    put_message(bytes, &len, "{\"type\":\"OFFER\",\"dst\":\"b\",\"payload\":4}");
    for (size_t cut = 0; cut <= len; cut++) {
        join(&a, "a", "1");
        join(&b, "b", "1");
        input(&a, bytes, cut);
        input(&a, bytes + cut, len - cut);
        for (size_t i = 0; i < 4; i++)
            expect_text(&b, expected[i]);
        expect_silence(&b);
        assert_true(next_frame(&a, &f));
        assert_int_equal(f.first, FIN | PONG);
        expect_silence(&a);
        assert_int_equal(stats().buffered, 0);
        end(&a);
        end(&b);
        now += DP_SECONDS(1); /* for the rate of connections */
    }
}

/* Messages of two clients, byte by byte in turn: the parser is lent to one and the other. */
static void test_interleaved_pieces(void **state)
{
    (void)state;
    stream a, b;
    uint8_t of_a[128], of_b[128];
    static const char text_a[] = "{\"type\":\"OFFER\",\"dst\":\"b\"}";
    static const char text_b[] = "{\"type\":\"ANSWER\",\"dst\":\"a\"}";
    dp_signal_server_config c = config();
    start(&c);
    join(&a, "a", "1");
    join(&b, "b", "1");
    size_t len_a = put_frame(of_a, TEXT, true, text_a, 9);
    len_a += put_frame(of_a + len_a, FIN | PING, true, "p", 1);
    len_a += put_frame(of_a + len_a, FIN, true, text_a + 9, sizeof(text_a) - 10);
    size_t len_b = put_frame(of_b, FIN | TEXT, true, text_b, sizeof(text_b) - 1);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < len_a || i < len_b; i++) {
            if (i < len_a)
                input(&a, of_a + i, 1);
            if (i < len_b)
                input(&b, of_b + i, 1);
        }
        assert_true(next_frame(&a, &f));
        if (f.first == (FIN | PONG)) {
            expect_text(&a, "{\"type\":\"ANSWER\",\"src\":\"b\",\"dst\":\"a\"}");
        } else {
            assert_true(next_frame(&a, &f));
            assert_int_equal(f.first, FIN | PONG);
        }
        expect_text(&b, "{\"type\":\"OFFER\",\"src\":\"a\",\"dst\":\"b\"}");
        expect_silence(&a);
        expect_silence(&b);
        assert_int_equal(stats().buffered, 0);
    }
    end(&a);
    end(&b);
}

static void test_arguments(void **state)
{
    (void)state;
    dp_signal_server_config bad[6];
    for (int i = 0; i < 6; i++)
        bad[i] = config();
    bad[0].size = 8;
    bad[1].random.fn = NULL;
    bad[2].path = "myapp";
    bad[3].path = "/a b";
    bad[4].key = "a\n";
    bad[5].access_token = "";
    for (int i = 0; i < 6; i++)
        assert_int_equal(dp_signal_server_new(&server, &bad[i]), DP_ERR_INVALID_ARGUMENT);
    server = NULL;
}

/* ---- allocation failures (row 90) ---- */

static unsigned long countdown, live;

static void *failing_alloc(void *ctx, size_t size)
{
    (void)ctx;
    if (countdown > 0 && --countdown == 0)
        return NULL;
    void *block = malloc(size);
    live += block != NULL;
    return block;
}
static void *failing_realloc(void *ctx, void *old, size_t size)
{
    (void)ctx;
    if (countdown > 0 && --countdown == 0)
        return NULL;
    void *block = realloc(old, size);
    live += block != NULL && old == NULL;
    return block;
}
static void failing_free(void *ctx, void *block)
{
    (void)ctx;
    live -= block != NULL;
    free(block);
}

/* Every outcome is fine but a crash, a leak or a stream that hangs. */
static void run_session(void)
{
    static const char *const messages[] = {"{\"type\":\"OFFER\",\"dst\":\"b\",\"payload\":1}",
                                           "{\"type\":\"OFFER\",\"dst\":\"x\"}", "{\"type\":\"LEAVE\"}"};
    stream streams[3];
    dp_signal_server_config c = config();
    c.allow_discovery = c.metrics = true;
    c.access_token = "t";
    if (dp_signal_server_new(&server, &c) != DP_OK)
        return;
    static const char *const requests[] = {
        "GET /peerjs?key=peerjs&id=a&token=t1" WS_HEADERS, "GET /peerjs?key=peerjs&id=b&token=t2" WS_HEADERS,
        "GET /a/peers HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n\r\n"};
    for (int i = 0; i < 3; i++) {
        if (open_from(&streams[i], "192.0.2.1") != DP_OK)
            streams[i].conn = NULL;
        else
            say(&streams[i], requests[i]);
    }
    for (int i = 0; i < 3; i++) {
        uint8_t bytes[128];
        size_t len = put_frame(bytes, FIN | TEXT, true, messages[i], strlen(messages[i]));
        input(&streams[0], bytes, 9);
        input(&streams[0], bytes + 9, len - 9);
    }
    pass(DP_SECONDS(6));
    dp_signal_server_shutdown(server, now);
    drain();
    pass(DP_SECONDS(3));
    for (int i = 0; i < 3; i++) {
        assert_null(streams[i].conn);
        end(&streams[i]);
    }
    assert_int_equal(stats().buffered, 0);
    assert_int_equal(done, 1);
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
        TEST(test_relay),
        TEST(test_nonsense_is_ignored),
        TEST(test_refusals),
        TEST(test_takeover),
        TEST(test_leave_frees_the_id),
        TEST(test_queue),
        TEST(test_expire),
        TEST(test_flood_to_absent_ids),
        TEST(test_queue_is_bounded_in_bytes),
        TEST(test_alive_timeout),
        TEST(test_shutdown),
        TEST(test_connection_rate),
        TEST(test_connection_is_charged_once),
        TEST(test_garbage_is_not_charged),
        TEST(test_served_is_charged),
        TEST(test_noisy_client),
        TEST(test_slow_reader),
        TEST(test_total_buffer),
        TEST(test_greediest_is_cut),
        TEST(test_greediest_is_cut_for_a_part),
        TEST(test_absent_leave_room),
        TEST(test_crowd_of_silent_connections),
        TEST(test_broken_frames),
        TEST(test_pings_and_close),
        TEST(test_flood_of_pings),
        TEST(test_many_frames_in_two_pieces),
        TEST(test_interleaved_pieces),
        TEST(test_arguments),
        TEST(test_nth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
