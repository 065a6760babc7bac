/* The list of peers: the request, and answers as they come and end. */
#include <datapeer/signaling.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int fake_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 0, len);
    return DP_OK;
}
static const dp_random fake = {fake_random, NULL};

static dp_peer_list *new_list(const char *url, const char *key)
{
    dp_server_url server;
    dp_peer_list *list = NULL;
    assert_int_equal(dp_server_url_parse(&server, url), DP_OK);
    assert_int_equal(dp_peer_list_new(&list, &server, key, &fake), DP_OK);
    return list;
}

static int give(dp_peer_list *list, const char *text)
{
    return dp_peer_list_input(list, (const uint8_t *)text, strlen(text));
}

static void asks_as_peerjs_does(void **state)
{
    static const char begin[] = "GET /my/k%20y/peers?ts=";
    static const char end[] = "&version=1.5.5 HTTP/1.0\r\nHost: example.org:9000\r\n\r\n";
    size_t len;
    (void)state;
    dp_peer_list *list = new_list("ws://example.org:9000/my", "k y");
    const char *request = (const char *)dp_peer_list_request(list, &len);
    assert_memory_equal(request, begin, sizeof(begin) - 1);
    assert_memory_equal(request + len - (sizeof(end) - 1), end, sizeof(end) - 1);
    dp_peer_list_free(list);
    dp_server_url server;
    assert_int_equal(dp_server_url_parse(&server, "ws://x/"), DP_OK);
    assert_int_equal(dp_peer_list_new(&list, &server, "a\r\nb", &fake), DP_ERR_INVALID_ARGUMENT);
    assert_int_equal(dp_peer_list_new(&list, &server, "", &fake), DP_ERR_INVALID_ARGUMENT);
}

static void an_answer_ends_by_its_length_or_with_the_stream(void **state)
{
    static const char with_length[] = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n[\"a\",\"b-1\"] more";
    size_t count;
    (void)state;
    dp_peer_list *list = new_list("ws://x/", "peerjs");
    int error = DP_ERR_WOULD_BLOCK;
    for (const char *at = with_length; error == DP_ERR_WOULD_BLOCK; at++)
        error = dp_peer_list_input(list, (const uint8_t *)at, 1);
    assert_int_equal(error, DP_OK);
    const char *const *ids = dp_peer_list_ids(list, &count);
    assert_int_equal(count, 2);
    assert_string_equal(ids[0], "a");
    assert_string_equal(ids[1], "b-1");
    dp_peer_list_free(list);

    list = new_list("ws://x/", "peerjs");
    assert_int_equal(give(list, "HTTP/1.0 200 OK\r\n\r\n[\"a\""), DP_ERR_WOULD_BLOCK);
    assert_int_equal(give(list, ",\"b\"]"), DP_ERR_WOULD_BLOCK);
    assert_int_equal(dp_peer_list_end(list), DP_OK);
    (void)dp_peer_list_ids(list, &count);
    assert_int_equal(count, 2);
    dp_peer_list_free(list);

    /* Cut short. */
    static const char *const cut[] = {"", "HTTP/1.0 200 OK\r\n", "HTTP/1.0 200 OK\r\n\r\n",
                                      "HTTP/1.0 200 OK\r\n\r\n[\"a\"",
                                      "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n[]"};
    for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
        list = new_list("ws://x/", "peerjs");
        assert_int_equal(give(list, cut[i]), DP_ERR_WOULD_BLOCK);
        assert_int_equal(dp_peer_list_end(list), DP_ERR_MALFORMED);
        dp_peer_list_free(list);
    }
}

static void an_answer_has_a_limit(void **state)
{
    (void)state;
    dp_peer_list *list = new_list("ws://x/", "peerjs");
    char *spaces = malloc(65536);
    memset(spaces, ' ', 65536);
    assert_int_equal(give(list, "HTTP/1.0 200 OK\r\n\r\n"), DP_ERR_WOULD_BLOCK);
    for (int i = 0; i < 16; i++)
        assert_int_equal(dp_peer_list_input(list, (const uint8_t *)spaces, 65536), DP_ERR_WOULD_BLOCK);
    assert_int_equal(dp_peer_list_input(list, (const uint8_t *)spaces, 1), DP_ERR_TOO_LARGE);
    dp_peer_list_free(list);
    free(spaces);
}

static void a_refusal_has_a_reason(void **state)
{
    (void)state;
    dp_peer_list *list = new_list("ws://x/", "peerjs");
    assert_int_equal(give(list, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\n"), DP_ERR_REMOTE);
    assert_non_null(strstr(dp_peer_list_reason(list), "401"));
    assert_non_null(strstr(dp_peer_list_reason(list), "allow_discovery"));
    dp_peer_list_free(list);
}

static void *fail_at_realloc(void *ctx, void *old, size_t size)
{
    long *left = ctx;
    return --*left == 0 ? NULL : realloc(old, size);
}
static void *fail_at_alloc(void *ctx, size_t size) { return fail_at_realloc(ctx, NULL, size); }
static void fail_at_free(void *ctx, void *block)
{
    (void)ctx;
    free(block);
}

/* Row 90. */
static void without_memory_it_fails(void **state)
{
    (void)state;
    int error = DP_ERR_NO_MEMORY;
    for (long fail_at = 1; error == DP_ERR_NO_MEMORY; fail_at++) {
        long left = fail_at;
        dp_allocator allocator = {fail_at_alloc, fail_at_realloc, fail_at_free, &left};
        dp_server_url server;
        dp_peer_list *list = NULL;
        assert_int_equal(dp_server_url_parse(&server, "ws://x/"), DP_OK);
        dp_set_allocator(&allocator);
        error = dp_peer_list_new(&list, &server, "peerjs", &fake);
        if (error == DP_OK)
            error = give(list, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n[\"a\"]");
        dp_peer_list_free(list);
        dp_set_allocator(NULL);
        assert_true(fail_at < 100);
    }
    assert_int_equal(error, DP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_as_peerjs_does),
        cmocka_unit_test(an_answer_ends_by_its_length_or_with_the_stream),
        cmocka_unit_test(an_answer_has_a_limit),
        cmocka_unit_test(a_refusal_has_a_reason),
        cmocka_unit_test(without_memory_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
