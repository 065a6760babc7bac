/* Later negotiations of a peer connection: ICE restarts, by either side and by both, and what is refused. */
#include "pair.h"

#include "../rpc/failing.h"
#include <stdio.h>

enum { TEXT = 16384 };

typedef struct description {
    char text[TEXT];
    size_t len;
} description;

static void offer_restart(pair *p, int end, description *out)
{
    assert_int_equal(dp_pc_restart_ice(p->ends[end].pc), DP_OK);
    assert_int_equal(dp_pc_create_offer(p->ends[end].pc, p->now, out->text, TEXT, &out->len), DP_OK);
}

static void take(pair *p, int end, dp_sdp_type type, const description *d)
{
    dp_sdp_error error;
    assert_int_equal(dp_pc_set_remote_description(p->ends[end].pc, p->now, type, d->text, d->len, &error),
                     DP_OK);
}

static void answer(pair *p, int end, const description *offer, description *out)
{
    take(p, end, DP_SDP_OFFER, offer);
    assert_int_equal(dp_pc_create_answer(p->ends[end].pc, p->now, out->text, TEXT, &out->len), DP_OK);
}

static void restart(pair *p, int offerer)
{
    static description offer, reply;
    offer_restart(p, offerer, &offer);
    answer(p, 1 - offerer, &offer, &reply);
    take(p, offerer, DP_SDP_ANSWER, &reply);
}

/* The value behind key, up to the line's end. */
static void field(char out[300], const description *d, const char *key)
{
    const char *at = strstr(d->text, key);
    assert_non_null(at);
    at += strlen(key);
    size_t len = strcspn(at, "\r\n");
    assert_true(len < 300);
    memcpy(out, at, len);
    out[len] = '\0';
}

static void change(description *d, const char *from, const char *to)
{
    char *at = strstr(d->text, from);
    assert_non_null(at);
    size_t tail = strlen(at + strlen(from)) + 1;
    memmove(at + strlen(to), at + strlen(from), tail);
    memcpy(at, to, strlen(to));
    d->len = strlen(d->text);
}

/* Each end sends, until limit has passed or both have heard count more; nothing may be lost. */
static void talk(pair *p, unsigned count)
{
    unsigned goal[2];
    for (int e = 0; e < 2; e++) {
        goal[e] = p->ends[e].messages + count;
        for (unsigned i = 0; i < count; i++)
            assert_int_equal(
                dp_channel_send(p->ends[1 - e].channel, p->now, (const uint8_t *)&i, sizeof(i), true, false),
                DP_OK);
    }
    PAIR_RUN_UNTIL(p, p->ends[0].messages >= goal[0] && p->ends[1].messages >= goal[1], DP_SECONDS(30));
    assert_int_equal(p->ends[0].closed + p->ends[1].closed, 0);
    assert_int_equal(p->ends[0].opened, 1);
}

static void data_flows_through_a_restart(void **state)
{
    (void)state;
    for (int offerer = 0; offerer < 2; offerer++) {
        static description offer, reply;
        char before[2][300], after[300];
        pair p;
        pair_new(&p, 20 + (uint64_t)offerer);
        pair_connect(&p);
        talk(&p, 10);
        for (int e = 0; e < 2; e++)
            strcpy(before[e], dp_pc_local_ufrag(p.ends[e].pc));
        offer_restart(&p, offerer, &offer);
        talk(&p, 10); /* on the old pair; the answer takes its time */
        pair_run(&p, DP_SECONDS(20));
        assert_int_equal(p.ends[0].state, DP_PC_CONNECTED);
        assert_int_equal(p.ends[1].state, DP_PC_CONNECTED);
        talk(&p, 10);
        unsigned selected[2] = {p.ends[0].selected, p.ends[1].selected};
        answer(&p, 1 - offerer, &offer, &reply);
        take(&p, offerer, DP_SDP_ANSWER, &reply);
        talk(&p, 10);
        PAIR_RUN_UNTIL(&p, p.ends[0].selected > selected[0] && p.ends[1].selected > selected[1],
                       DP_SECONDS(5));
        talk(&p, 10);
        for (int e = 0; e < 2; e++)
            assert_string_not_equal(before[e], dp_pc_local_ufrag(p.ends[e].pc));
        field(after, &offer, "a=ice-ufrag:");
        assert_string_equal(after, dp_pc_local_ufrag(p.ends[offerer].pc));
        field(after, &offer, "a=setup:");
        assert_string_equal(after, "actpass");
        assert_non_null(strstr(offer.text, "a=candidate:"));
        assert_non_null(strstr(reply.text, "a=candidate:"));
        pair_run(&p, DP_SECONDS(60)); /* the old session's end disturbs nothing */
        assert_int_equal(p.ends[0].state, DP_PC_CONNECTED);
        talk(&p, 10);
        pair_free(&p);
    }
}

static void the_session_has_one_id_and_rising_versions(void **state)
{
    (void)state;
    static description offer, reply;
    char line[300];
    unsigned long long id[3], version[3];
    pair p;
    pair_new(&p, 22);
    pair_connect(&p);
    for (int i = 0; i < 3; i++) {
        offer_restart(&p, 0, &offer);
        field(line, &offer, "o=- ");
        assert_int_equal(sscanf(line, "%llu %llu", &id[i], &version[i]), 2);
        answer(&p, 1, &offer, &reply);
        take(&p, 0, DP_SDP_ANSWER, &reply);
    }
    assert_true(id[0] == id[1] && id[1] == id[2]);
    assert_true(version[1] == version[0] + 1 && version[2] == version[1] + 1);
    talk(&p, 5);
    pair_free(&p);
}

/* RFC 8839 §4.4.1: the same credentials are no restart, and the answer keeps its own. */
static void an_offer_that_changes_nothing_is_answered_with_the_same(void **state)
{
    (void)state;
    static description offer, first, second;
    char a[300], b[300];
    pair p;
    pair_new(&p, 23);
    dp_channel_init init = DP_CHANNEL_INIT("test");
    assert_int_equal(dp_pc_create_channel(p.ends[0].pc, &p.ends[0].channel, p.now, &init), DP_OK);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, offer.text, TEXT, &offer.len), DP_OK);
    answer(&p, 1, &offer, &first);
    take(&p, 0, DP_SDP_ANSWER, &first);
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 1 && p.ends[1].opened == 1, DP_SECONDS(5));
    unsigned selected = p.ends[1].selected;
    answer(&p, 1, &offer, &second);
    static const char *const same[] = {"a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:", "a=mid:"};
    for (size_t i = 0; i < 5; i++) {
        field(a, &first, same[i]);
        field(b, &second, same[i]);
        assert_string_equal(a, b);
    }
    talk(&p, 5);
    pair_run(&p, DP_SECONDS(40));
    assert_int_equal(p.ends[1].selected, selected);
    assert_int_equal(p.ends[1].state, DP_PC_CONNECTED);
    pair_free(&p);
}

/* The machine has joined another network: nothing that was known of it is true any more. */
static void a_restart_finds_an_end_that_has_moved(void **state)
{
    (void)state;
    for (int offerer = 0; offerer < 2; offerer++) {
        pair p;
        dp_address other;
        pair_new(&p, 24);
        pair_connect(&p);
        assert_int_equal(dp_address_parse(&other, "10.9.9.9", 50000), DP_OK);
        p.cut = true; /* no check of the moved end arrives before the restart */
        assert_int_equal(dp_pc_remove_local_address(p.ends[0].pc, p.now, &p.ends[0].address), DP_OK);
        assert_int_equal(dp_pc_add_local_address(p.ends[0].pc, p.now, &other), DP_OK);
        p.ends[0].address = other;
        pair_run(&p, DP_SECONDS(8));
        assert_int_equal(p.ends[1].state, DP_PC_DISCONNECTED);
        restart(&p, offerer);
        p.cut = false;
        PAIR_RUN_UNTIL(&p, p.ends[0].state == DP_PC_CONNECTED && p.ends[1].state == DP_PC_CONNECTED,
                       DP_SECONDS(5));
        talk(&p, 10);
        pair_free(&p);
    }
}

/* Both offer at once; end 1 gives way. */
static void the_offer_that_comes_rolls_ours_back(void **state)
{
    (void)state;
    static description offers[2], reply;
    char ours[300], theirs[300];
    pair p;
    pair_new(&p, 25);
    pair_connect(&p);
    for (int e = 0; e < 2; e++)
        offer_restart(&p, e, &offers[e]);
    pair_run(&p, DP_MS(100));
    answer(&p, 1, &offers[0], &reply);
    field(ours, &offers[1], "a=ice-ufrag:");
    field(theirs, &reply, "a=ice-ufrag:");
    assert_string_not_equal(ours, theirs); /* nobody mixes the two sessions up */
    assert_non_null(strstr(reply.text, "a=candidate:"));
    take(&p, 0, DP_SDP_ANSWER, &reply);
    dp_sdp_error error;
    assert_int_equal(
        dp_pc_set_remote_description(p.ends[1].pc, p.now, DP_SDP_ANSWER, reply.text, reply.len, &error),
        DP_ERR_INVALID_STATE); /* no answer is due to what was rolled back */
    unsigned selected = p.ends[0].selected;
    PAIR_RUN_UNTIL(&p, p.ends[0].selected > selected, DP_SECONDS(5));
    talk(&p, 10);
    restart(&p, 1);
    talk(&p, 10);
    pair_free(&p);
}

static void the_first_offer_can_be_rolled_back_too(void **state)
{
    (void)state;
    static description offers[2], reply;
    pair p;
    pair_new(&p, 26);
    dp_channel_init init = DP_CHANNEL_INIT("test");
    assert_int_equal(dp_pc_create_channel(p.ends[0].pc, &p.ends[0].channel, p.now, &init), DP_OK);
    for (int e = 0; e < 2; e++)
        assert_int_equal(dp_pc_create_offer(p.ends[e].pc, p.now, offers[e].text, TEXT, &offers[e].len),
                         DP_OK);
    answer(&p, 1, &offers[0], &reply);
    take(&p, 0, DP_SDP_ANSWER, &reply);
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 1 && p.ends[1].opened == 1, DP_SECONDS(5));
    talk(&p, 5);
    pair_free(&p);
}

/* An offer is lost with the PeerServer's stream: the next one takes its place. */
static void a_lost_offer_is_followed_by_another(void **state)
{
    (void)state;
    static description lost;
    pair p;
    pair_new(&p, 27);
    pair_connect(&p);
    offer_restart(&p, 0, &lost);
    /* Candidates of the session that ends still come, and do no harm. */
    assert_int_equal(
        dp_pc_add_remote_candidate(p.ends[0].pc, p.now, "candidate:1 1 udp 1 10.0.0.3 1 typ host"), DP_OK);
    pair_run(&p, DP_SECONDS(10));
    restart(&p, 0);
    talk(&p, 10);
    pair_run(&p, DP_SECONDS(60));
    assert_int_equal(p.ends[0].state, DP_PC_CONNECTED);
    talk(&p, 1);
    pair_free(&p);
}

/* ---- what is refused ---- */

static void refused(pair *p, int end, dp_sdp_type type, const description *d, const char *why)
{
    dp_sdp_error error;
    int result = dp_pc_set_remote_description(p->ends[end].pc, p->now, type, d->text, d->len, &error);
    if (result != DP_ERR_PROTOCOL || strstr(error.message, why) == NULL)
        fail_msg("%d, \"%s\" instead of \"%s\"", result, error.message, why);
}

static void changes_that_need_a_new_connection_are_refused(void **state)
{
    (void)state;
    static description offer, bad, reply;
    static const struct {
        const char *from;
        const char *to;
        const char *why;
    } changes[] = {
        {"a=setup:actpass", "a=setup:active", "DTLS roles"},
        {"a=mid:0", "a=mid:1", "a=mid"},
        {"a=sctp-port:5000", "a=sctp-port:5001", "sctp-port"},
        {"m=application 9 ", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:x\r\nm=application 9 ", "place"},
    };
    pair p;
    pair_new(&p, 28);
    pair_connect(&p);
    offer_restart(&p, 0, &offer);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        bad = offer;
        change(&bad, changes[i].from, changes[i].to);
        if (strstr(changes[i].from, "mid") != NULL)
            change(&bad, "BUNDLE 0", "BUNDLE 1");
        refused(&p, 1, DP_SDP_OFFER, &bad, changes[i].why);
    }
    bad = offer; /* somebody else's certificate: a stolen session would be his */
    char *digit = strstr(bad.text, "a=fingerprint:sha-256 ") + strlen("a=fingerprint:sha-256 ");
    *digit = *digit == '0' ? '1' : '0';
    refused(&p, 1, DP_SDP_OFFER, &bad, "fingerprint");
    talk(&p, 5); /* as before */
    answer(&p, 1, &offer, &reply);
    bad = reply;
    change(&bad, "a=setup:active", "a=setup:passive");
    refused(&p, 0, DP_SDP_ANSWER, &bad, "DTLS roles");
    bad = reply;
    digit = strstr(bad.text, "a=fingerprint:sha-256 ") + strlen("a=fingerprint:sha-256 ");
    *digit = *digit == '0' ? '1' : '0';
    refused(&p, 0, DP_SDP_ANSWER, &bad, "fingerprint");
    take(&p, 0, DP_SDP_ANSWER, &reply);
    talk(&p, 5);
    pair_free(&p);
}

static void an_answer_must_restart_what_the_offer_restarts(void **state)
{
    (void)state;
    static description first, reply, offer;
    pair p;
    pair_new(&p, 29);
    dp_channel_init init = DP_CHANNEL_INIT("test");
    assert_int_equal(dp_pc_create_channel(p.ends[0].pc, &p.ends[0].channel, p.now, &init), DP_OK);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, first.text, TEXT, &first.len), DP_OK);
    answer(&p, 1, &first, &reply);
    take(&p, 0, DP_SDP_ANSWER, &reply);
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 1 && p.ends[1].opened == 1, DP_SECONDS(5));
    offer_restart(&p, 0, &offer);
    refused(&p, 0, DP_SDP_ANSWER, &reply, "keeps its ICE credentials");
    offer_restart(&p, 1, &offer);
    refused(&p, 1, DP_SDP_OFFER, &first, "restarts nothing");
    talk(&p, 5);
    pair_free(&p);
}

static void restarts_have_their_time(void **state)
{
    (void)state;
    static description d;
    pair p;
    pair_new(&p, 30);
    assert_int_equal(dp_pc_restart_ice(p.ends[0].pc), DP_ERR_INVALID_STATE);
    pair_connect(&p);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, d.text, TEXT, &d.len), DP_ERR_INVALID_STATE);
    assert_int_equal(dp_pc_create_answer(p.ends[0].pc, p.now, d.text, TEXT, &d.len), DP_ERR_INVALID_STATE);
    offer_restart(&p, 0, &d);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, d.text, TEXT, &d.len), DP_ERR_INVALID_STATE);
    take(&p, 1, DP_SDP_OFFER, &d);
    assert_int_equal(dp_pc_restart_ice(p.ends[1].pc), DP_OK); /* due, but first comes the answer */
    assert_int_equal(dp_pc_create_offer(p.ends[1].pc, p.now, d.text, TEXT, &d.len), DP_ERR_INVALID_STATE);
    dp_pc_close(p.ends[0].pc, p.now);
    assert_int_equal(dp_pc_restart_ice(p.ends[0].pc), DP_ERR_INVALID_STATE);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, d.text, TEXT, &d.len), DP_ERR_INVALID_STATE);
    pair_free(&p);
}

/* ---- lite, hidden addresses ---- */

static void a_lite_end_answers(void **state)
{
    (void)state;
    for (int lite = 0; lite < 2; lite++) {
        dp_pc_config flags[2] = {{.ice_lite = lite == 0}, {.ice_lite = lite == 1}};
        pair p;
        pair_new_as(&p, 31, flags);
        pair_connect(&p);
        talk(&p, 5);
        restart(&p, 0);
        talk(&p, 5);
        restart(&p, 1);
        talk(&p, 5);
        pair_run(&p, DP_SECONDS(60));
        assert_int_equal(p.ends[1 - lite].ice_state, DP_ICE_COMPLETED); /* the full end controls */
        assert_int_equal(p.ends[0].state, DP_PC_CONNECTED);
        assert_int_equal(p.ends[1].state, DP_PC_CONNECTED);
        pair_free(&p);
    }
}

static struct {
    char name[256];
    dp_address address;
} published;
static unsigned publications;
static char asked[256];

static void note_names(pair_end *end, const dp_pc_event *event)
{
    (void)end;
    if (event->type == DP_PC_EVENT_PUBLISH) {
        publications++;
        snprintf(published.name, sizeof(published.name), "%s", event->hostname);
        published.address = event->local;
    } else if (event->type == DP_PC_EVENT_RESOLVE) {
        snprintf(asked, sizeof(asked), "%s", event->hostname);
    }
}

static void hidden_addresses_are_published_and_resolved(void **state)
{
    (void)state;
    static description offer, reply;
    dp_pc_config flags[2] = {{.hide_addresses = true}, {.hide_addresses = false}};
    pair p;
    pair_new_as(&p, 32, flags);
    publications = 0;
    p.ends[0].on_event = p.ends[1].on_event = note_names;
    dp_channel_init init = DP_CHANNEL_INIT("test");
    assert_int_equal(dp_pc_create_channel(p.ends[0].pc, &p.ends[0].channel, p.now, &init), DP_OK);
    assert_int_equal(dp_pc_create_offer(p.ends[0].pc, p.now, offer.text, TEXT, &offer.len), DP_OK);
    assert_null(strstr(offer.text, "10.0.0.1"));
    assert_non_null(strstr(offer.text, ".local 40000 typ host"));
    pair_drain(&p);
    assert_int_equal(publications, 1);
    assert_true(dp_address_equal(&published.address, &p.ends[0].address));
    assert_non_null(strstr(offer.text, published.name));
    answer(&p, 1, &offer, &reply);
    pair_drain(&p);
    assert_string_equal(asked, published.name);
    dp_pc_resolved(p.ends[1].pc, p.now, asked, &published.address, 1);
    take(&p, 0, DP_SDP_ANSWER, &reply);
    PAIR_RUN_UNTIL(&p, p.ends[0].opened == 1 && p.ends[1].opened == 1, DP_SECONDS(5));
    offer_restart(&p, 0, &offer);
    assert_null(strstr(offer.text, "10.0.0.1"));
    pair_free(&p);
}

/* Row 90: every allocation of a restart fails in turn; the old pair carries on in any case. */
static bool try_to_restart(long fail_at)
{
    static description offer, reply;
    pair p;
    pair_new(&p, 33);
    pair_connect(&p);
    memory_start(fail_at);
    if (dp_pc_restart_ice(p.ends[0].pc) == DP_OK &&
        dp_pc_create_offer(p.ends[0].pc, p.now, offer.text, TEXT, &offer.len) == DP_OK &&
        dp_pc_set_remote_description(p.ends[1].pc, p.now, DP_SDP_OFFER, offer.text, offer.len, NULL) ==
            DP_OK &&
        dp_pc_create_answer(p.ends[1].pc, p.now, reply.text, TEXT, &reply.len) == DP_OK)
        (void)dp_pc_set_remote_description(p.ends[0].pc, p.now, DP_SDP_ANSWER, reply.text, reply.len, NULL);
    bool all_done = memory.count < fail_at;
    memory.fail_at = 0;
    talk(&p, 3);
    restart(&p, 0); /* the next try is not refused for what is left of this one */
    talk(&p, 3);
    pair_free(&p);
    memory_stop();
    return all_done;
}

static void failed_allocations_leave_the_old_pair(void **state)
{
    (void)state;
    long n = 1;
    while (!try_to_restart(n))
        assert_true(++n < 1000);
    printf("%ld allocations\n", n - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_flows_through_a_restart),
        cmocka_unit_test(the_session_has_one_id_and_rising_versions),
        cmocka_unit_test(an_offer_that_changes_nothing_is_answered_with_the_same),
        cmocka_unit_test(a_restart_finds_an_end_that_has_moved),
        cmocka_unit_test(the_offer_that_comes_rolls_ours_back),
        cmocka_unit_test(the_first_offer_can_be_rolled_back_too),
        cmocka_unit_test(a_lost_offer_is_followed_by_another),
        cmocka_unit_test(changes_that_need_a_new_connection_are_refused),
        cmocka_unit_test(an_answer_must_restart_what_the_offer_restarts),
        cmocka_unit_test(restarts_have_their_time),
        cmocka_unit_test(a_lite_end_answers),
        cmocka_unit_test(hidden_addresses_are_published_and_resolved),
        cmocka_unit_test(failed_allocations_leave_the_old_pair),
    };
    return cmocka_run_group_tests_name("restart", tests, NULL, NULL);
}
