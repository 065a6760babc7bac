/* Who the other end has to be, and the log of the keys, as a peer connection's configuration says. */
#include "pair.h"

#include "dtls/certificate.h"
#include <stdio.h>

/* End i anew, with this pin and key log. */
static void configure(pair *p, int i, const dp_fingerprint *pin, dp_key_log key_log)
{
    pair_end *end = &p->ends[i];
    dp_pc_free(end->pc);
    dp_pc_config config = {.size = sizeof(config),
                           .random = {pair_random_bytes, p},
                           .certificate = end->certificate,
                           .remote_fingerprint = pin,
                           .key_log = key_log};
    assert_int_equal(dp_pc_new(&end->pc, &config), DP_OK);
    assert_int_equal(dp_pc_add_local_address(end->pc, p->now, &end->address), DP_OK);
}

static dp_fingerprint fingerprint_of(const pair *p, int i, dp_fingerprint_algorithm algorithm)
{
    dp_fingerprint fp;
    assert_int_equal(dp_certificate_hash(&fp, algorithm, &p->ends[i].certificate->crt), DP_OK);
    return fp;
}

static void the_right_certificate_will_do(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++)
        for (int algorithm = DP_FINGERPRINT_SHA256; algorithm <= DP_FINGERPRINT_SHA512; algorithm++) {
            pair p;
            pair_new(&p, 1);
            dp_fingerprint pin = fingerprint_of(&p, 1 - who, (dp_fingerprint_algorithm)algorithm);
            configure(&p, who, &pin, (dp_key_log){0});
            memset(&pin, 0, sizeof(pin)); /* it was copied */
            pair_connect(&p);
            pair_free(&p);
        }
}

static int failure;
static void keep_failure(pair_end *end, const dp_pc_event *event)
{
    (void)end;
    if (event->type == DP_PC_EVENT_STATE && event->state == DP_PC_FAILED)
        failure = event->error;
}

/* The description is right, and so is what the peer proves: as when a PeerServer puts itself in the middle, with a
 * certificate and descriptions of its own. */
static void another_certificate_opens_no_channel(void **state)
{
    (void)state;
    for (int who = 0; who < 2; who++)
        for (int algorithm = DP_FINGERPRINT_SHA256; algorithm <= DP_FINGERPRINT_SHA512; algorithm++) {
            pair p;
            char text[DP_FINGERPRINT_TEXT_MAX];
            pair_new(&p, 2);
            p.ends[who].on_event = keep_failure;
            dp_fingerprint pin = fingerprint_of(&p, 1 - who, (dp_fingerprint_algorithm)algorithm);
            dp_fingerprint real = pin;
            pin.bytes[pin.length - 1] ^= 1;
            configure(&p, who, &pin, (dp_key_log){0});
            pair_negotiate(&p, true);
            failure = DP_OK;
            PAIR_RUN_UNTIL(&p, p.ends[who].state == DP_PC_FAILED,
                           DP_SECONDS(5)); /* at once, not by a time-out */
            assert_int_equal(failure, DP_ERR_FINGERPRINT);
            assert_non_null(strstr(p.ends[who].error, dp_fingerprint_format(&pin, text)));
            assert_non_null(strstr(p.ends[who].error, dp_fingerprint_format(&real, text)));
            pair_run(&p, DP_SECONDS(60));
            assert_int_equal(p.ends[0].opened + p.ends[1].opened, 0);
            pair_free(&p);
        }
}

/* Each description names two certificates, both wrong: with a pin it does not matter what it says. */
static void the_description_does_not_count(void **state)
{
    (void)state;
    static const char line[] = "a=fingerprint:sha-256 ";
    pair p;
    char text[2][16384];
    size_t len;
    dp_fingerprint pins[2];
    pair_new(&p, 5);
    for (int i = 0; i < 2; i++) {
        pins[i] = fingerprint_of(&p, 1 - i, DP_FINGERPRINT_SHA256);
        configure(&p, i, &pins[i], (dp_key_log){0});
    }
    dp_channel_init init = DP_CHANNEL_INIT("test");
    assert_int_equal(dp_pc_create_channel(p.ends[0].pc, &p.ends[0].channel, p.now, &init), DP_OK);
    for (int i = 0; i < 2; i++) {
        int error = i == 0 ? dp_pc_create_offer(p.ends[0].pc, p.now, text[0], sizeof(text[0]), &len)
                           : dp_pc_create_answer(p.ends[1].pc, p.now, text[1], sizeof(text[1]), &len);
        assert_int_equal(error, DP_OK);
        char *at = strstr(text[i], line);
        size_t line_len = sizeof(line) - 1 + 95 + 2;
        at[sizeof(line) - 1] = at[sizeof(line) - 1] == '0' ? '1' : '0';
        memmove(at + line_len, at, strlen(at) + 1);
        error = dp_pc_set_remote_description(p.ends[1 - i].pc, p.now, i == 0 ? DP_SDP_OFFER : DP_SDP_ANSWER,
                                             text[i], len + line_len, NULL);
        assert_int_equal(error, DP_OK);
    }
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 1 && p.ends[1].opened == 1, DP_SECONDS(10));
    pair_free(&p);
}

/* A pin that names nothing must not be taken for none. */
static void a_pin_that_is_none_is_refused(void **state)
{
    (void)state;
    pair p;
    pair_new(&p, 3);
    dp_fingerprint good = fingerprint_of(&p, 1, DP_FINGERPRINT_SHA256);
    dp_fingerprint bad[] = {{0}, good, good, good, good};
    bad[1].length = 0;
    bad[2].length = 31;
    bad[3].algorithm = (dp_fingerprint_algorithm)(DP_FINGERPRINT_SHA512 + 1);
    bad[4].length = 255;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        dp_pc *pc = NULL;
        dp_pc_config config = {.size = sizeof(config),
                               .random = {pair_random_bytes, &p},
                               .certificate = p.ends[0].certificate,
                               .remote_fingerprint = &bad[i]};
        assert_int_equal(dp_pc_new(&pc, &config), DP_ERR_INVALID_ARGUMENT);
        assert_null(pc);
    }
    pair_free(&p);
}

/* ---- key log ---- */

typedef struct lines {
    unsigned count;
    char last[256];
} lines;

static void keep_line(void *ctx, const char *line)
{
    lines *l = ctx;
    l->count++;
    snprintf(l->last, sizeof(l->last), "%s", line);
}

static void both_ends_log_the_same_key(void **state)
{
    (void)state;
    pair p;
    lines logs[2] = {{0}, {0}};
    pair_new(&p, 4);
    for (int i = 0; i < 2; i++)
        configure(&p, i, NULL, (dp_key_log){keep_line, &logs[i]});
    pair_connect(&p);
    assert_int_equal(logs[0].count, 1);
    assert_int_equal(logs[1].count, 1);
    assert_string_equal(logs[0].last, logs[1].last);
    assert_int_equal(strlen(logs[0].last), strlen("CLIENT_RANDOM ") + 64 + 1 + 96);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_certificate_will_do),
        cmocka_unit_test(another_certificate_opens_no_channel),
        cmocka_unit_test(the_description_does_not_count),
        cmocka_unit_test(a_pin_that_is_none_is_refused),
        cmocka_unit_test(both_ends_log_the_same_key),
    };
    return cmocka_run_group_tests_name("pin", tests, NULL, NULL);
}
