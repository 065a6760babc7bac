/* The attempts at a handshake: mbedTLS's contexts, each of which a single forged record may end, one after the other
 * until one of them is done or the time is over. */
#include "internal.h"

#include <mbedtls/error.h>
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/mem.h"
#include "base/wr.h"

/* A context that a record has ended is replaced by a fresh one: so many times at once, then one a second up to the
 * deadline. No number of forged records is the end, and they do not cost us many milliseconds of elliptic curves. */
#define RESTARTS_AT_ONCE 8
#define RESTART_PAUSE    DP_SECONDS(1)
/* A server takes a ClientHello with a new random for a client that started over, if its own attempt stands
 * still. */
#define SERVER_STALLED DP_SECONDS(1)
/* A client starts over if nothing moves for so long, see is_stuck. */
#define CLIENT_STALLED DP_SECONDS(3)

#define HELLO_RANDOM_AT 2 /* behind client_version */

/* ---- an attempt --------------------------------------------------------------------------------------- */

static int begin_attempt(dp_dtls *dtls)
{
    dp_handshake_config config = {
        .role = dtls->config.role,
        .certificate = dtls->config.certificate,
        .fingerprints = dtls->fingerprints,
        .fingerprint_count = dtls->fingerprint_count,
        .mtu = dtls->config.mtu,
        .out = &dtls->out,
        .attempt = (uint16_t)dtls->restarts,
        .key_log = dtls->config.key_log,
        .mismatched = dtls->mismatched,
    };
    if (dtls->handshake == NULL || !dp_handshake_is_repeatable(dtls->handshake)) {
        int err = dp_random_bytes(&dtls->config.random, dtls->seed, sizeof dtls->seed);
        if (err != DP_OK)
            return err;
    }
    memcpy(config.seed, dtls->seed, sizeof config.seed);
    dp_handshake_free(dtls->handshake);
    dtls->handshake = NULL;
    dp_protection_clear(&dtls->protection);
    dtls->have_keys = false;
    dtls->pause_end = DP_TIME_NEVER;
    dtls->hello_known = false;
    dtls->alert = -1;
    dtls->heard = false;
    dtls->progressed = dtls->now;
    int err = dp_handshake_new(&dtls->handshake, &config);
    dp_wipe(config.seed, sizeof config.seed);
    return err;
}

static bool begin_again(dp_dtls *dtls)
{
    int err = begin_attempt(dtls);
    if (err != DP_OK)
        dp_dtls_fail(dtls, err, "the handshake cannot begin again: %s", dp_strerror(err));
    return err == DP_OK;
}

#define REASON_MAX 200

/* What is known about why attempts failed: "; ..." twice at most. */
static const char *reason(const dp_dtls *dtls, char text[REASON_MAX])
{
    size_t used = 0;
    text[0] = '\0';
    if (dtls->last_error != 0) {
        char error[100];
        mbedtls_strerror(dtls->last_error, error, sizeof error);
        used = (size_t)snprintf(text, REASON_MAX, "; mbedTLS says: %s (-0x%04x)", error,
                                (unsigned)-dtls->last_error);
    }
    if (dtls->last_alert >= 0)
        (void)snprintf(text + used, REASON_MAX - used, "; the peer (or a forger) sent alert %d",
                       dtls->last_alert);
    return text;
}

/* Throws the attempt away; true if another one has begun already. */
static bool restart(dp_dtls *dtls, const char *why)
{
    char text[REASON_MAX];
    int error = dp_handshake_error(dtls->handshake);
    if (error != 0)
        dtls->last_error = error;
    dtls->restarts++;
    DP_LOG(&dtls->config.log, DP_LOG_INFO, LAYER, "handshake attempt %u: %s%s", dtls->restarts + 1, why,
           reason(dtls, text));
    if (dtls->restarts > RESTARTS_AT_ONCE) {
        dtls->pause_end = dtls->now + RESTART_PAUSE;
        return false;
    }
    return begin_again(dtls);
}

/* DP_ERR_CRYPTO: there are none yet. */
static int take_keys(dp_dtls *dtls)
{
    dp_record_keys keys;
    if (dtls->have_keys)
        return DP_OK;
    int err = dp_handshake_keys(dtls->handshake, &keys, &dtls->srtp);
    if (err == DP_OK)
        err = dp_protection_init(&dtls->protection, &keys);
    dp_wipe(&keys, sizeof keys);
    dtls->have_keys = err == DP_OK;
    return err;
}

/* Is a sealed record of the handshake from the one who has the keys? mbedTLS ends the handshake, with an
 * alert, if what it takes for Finished is forged: one spoofed datagram of ChangeCipherSpec and garbage, which
 * it keeps until their time has come, would do. A Finished that overtook the keys is lost, and comes again.
 */
static bool is_authentic(dp_dtls *dtls, const dp_record *record)
{
    uint8_t copy[DP_SEALED_FINISHED_MAX];
    uint8_t *plain = NULL;
    size_t len = 0;
    if (record->length > sizeof copy || take_keys(dtls) != DP_OK)
        return false;
    memcpy(copy, record->body, record->length);
    return dp_protection_open(&dtls->protection, &plain, &len, record, copy);
}

static void connected(dp_dtls *dtls)
{
    int err = take_keys(dtls);
    if (err != DP_OK) {
        dp_dtls_fail(dtls, err, "no record keys: %s", dp_strerror(err));
        return;
    }
    dp_reassembly_clear(&dtls->reassembly);
    if (dtls->config.role == DP_DTLS_SERVER) {
        const uint8_t *last_flight = dp_handshake_last_flight(dtls->handshake, &dtls->last_flight_len);
        memcpy(dtls->last_flight, last_flight, dtls->last_flight_len);
    }
    dtls->record_max = dp_handshake_record_max(dtls->handshake);
    dp_handshake_free(dtls->handshake); /* mbedTLS's 45 KB */
    dtls->handshake = NULL;
    dp_wipe(dtls->seed, sizeof dtls->seed);
    if (dp_queue_peek(&dtls->out) == NULL)
        dp_queue_clear(&dtls->out); /* an idle connection holds no room for datagrams */
    dtls->event_connected = true;
    dp_dtls_set_state(dtls, DP_DTLS_CONNECTED);
}

static void refused(dp_dtls *dtls)
{
    char expected_text[DP_FINGERPRINT_TEXT_MAX];
    char peer_text[DP_FINGERPRINT_TEXT_MAX];
    if (dtls->mismatch.length == 0) {
        dp_dtls_fail(dtls, DP_ERR_AUTH, "the peer sent no certificate, or too long a chain");
        return;
    }
    dp_fingerprint_format(&dtls->fingerprints[0], expected_text);
    dp_fingerprint_format(&dtls->mismatch, peer_text);
    dp_dtls_fail(dtls, DP_ERR_FINGERPRINT, "certificate mismatch: expected %s, the peer has %s",
                 expected_text, peer_text);
}

/* The first certificate that does not fit may be an altered copy of the right one, as long as there is time to see it
 * again; the peer shows a wrong one twice. */
static bool may_be_altered(dp_dtls *dtls)
{
    const dp_fingerprint *peer = dp_handshake_peer_fingerprint(dtls->handshake);
    bool first = !dtls->mismatched && dp_handshake_is_repeatable(dtls->handshake);
    dtls->mismatched = true;
    dtls->mismatch = peer != NULL ? *peer : (dp_fingerprint){0};
    return first;
}

/* One step of the handshake with a record or, for a timer or the start, with none. */
static void advance(dp_dtls *dtls, const uint8_t *record, size_t len)
{
    for (;;) {
        dp_handshake_result result = dp_handshake_step(dtls->handshake, dtls->now, record, len);
        if (result == DP_HANDSHAKE_DONE) {
            connected(dtls);
        } else if (result == DP_HANDSHAKE_DEAD || result == DP_HANDSHAKE_REFUSED) {
            bool again = result == DP_HANDSHAKE_DEAD || may_be_altered(dtls);
            if (!again)
                refused(dtls);
            if (!again || !restart(dtls, "a record ended the last one"))
                return;
            record = NULL; /* the first step of a fresh context: a client sends its ClientHello again */
            continue;
        } else if (dp_handshake_progress(dtls->handshake) != dtls->progress) {
            dtls->progress = dp_handshake_progress(dtls->handshake);
            dtls->progressed = dtls->now;
            dtls->heard = false;
            dtls->alert = -1;
        }
        return;
    }
}

/* ---- time ------------------------------------------------------------------------------------------- */

int dp_dtls_start(dp_dtls *dtls, dp_time now)
{
    if (dtls->state != DP_DTLS_NEW || dtls->fingerprint_count == 0)
        return DP_ERR_INVALID_STATE;
    dtls->now = now;
    int err = begin_attempt(dtls);
    if (err != DP_OK)
        return err;
    if (dtls->config.key_log.fn != NULL)
        DP_LOG(&dtls->config.log, DP_LOG_WARN, LAYER,
               "the key log is on: whoever reads it can decrypt this connection");
    dtls->deadline = now + dtls->config.handshake_timeout;
    dp_dtls_set_state(dtls, DP_DTLS_CONNECTING);
    advance(dtls, NULL, 0);
    return DP_OK;
}

dp_time dp_dtls_next_timeout(const dp_dtls *dtls)
{
    if (dtls->state != DP_DTLS_CONNECTING)
        return DP_TIME_NEVER;
    bool pause = dtls->pause_end != DP_TIME_NEVER;
    dp_time timer = pause ? dtls->pause_end : dp_handshake_next_timeout(dtls->handshake);
    return timer < dtls->deadline ? timer : dtls->deadline;
}

/* A client that gets no further starts over if the server seems to have given up, or repeats a flight that mbedTLS does
 * not take: it keeps half a message of an attempt that the server has left, and no other fits to it. As long as the
 * ClientHello stays the same that costs no more than what has come of the flight. */
static bool is_stuck(const dp_dtls *dtls)
{
    if (dtls->config.role != DP_DTLS_CLIENT || dtls->now - dtls->progressed < CLIENT_STALLED)
        return false;
    return dtls->alert >= 0 || (dtls->heard && dp_handshake_is_repeatable(dtls->handshake));
}

void dp_dtls_handle_timeout(dp_dtls *dtls, dp_time now)
{
    dtls->now = now;
    if (dtls->state != DP_DTLS_CONNECTING)
        return;
    /* The peer does not show the certificate again that did not fit: it does not take our repetition for one. */
    bool stalled = now - dtls->progressed >= CLIENT_STALLED || now >= dtls->deadline;
    if (stalled && dtls->mismatched && !dp_handshake_is_identified(dtls->handshake)) {
        refused(dtls);
        return;
    }
    if (now >= dtls->deadline) {
        char text[REASON_MAX];
        dp_dtls_fail(dtls, DP_ERR_TIMEOUT, "the handshake timed out after %llu ms, attempt %u%s",
                     (unsigned long long)(dtls->config.handshake_timeout / 1000), dtls->restarts + 1,
                     reason(dtls, text));
        return;
    }
    if (now < dp_dtls_next_timeout(dtls))
        return;
    if (dtls->pause_end != DP_TIME_NEVER) {
        if (!begin_again(dtls))
            return;
    } else if (is_stuck(dtls) && !restart(dtls, "the server seems to have given up")) {
        return;
    }
    advance(dtls, NULL, 0);
}

/* ---- records ---------------------------------------------------------------------------------------- */

/* A whole ClientHello; record is what mbedTLS gets, body the message. */
static void client_hello(dp_dtls *dtls, const uint8_t *record, size_t len, const uint8_t *body,
                         size_t body_len)
{
    if (body_len < HELLO_RANDOM_AT + HELLO_RANDOM_LEN) {
        dp_dtls_drop(dtls, "short ClientHello");
        return;
    }
    const uint8_t *random = body + HELLO_RANDOM_AT;
    if (dtls->hello_known && memcmp(random, dtls->hello_random, HELLO_RANDOM_LEN) != 0) {
        if (dtls->now - dtls->progressed < SERVER_STALLED) {
            dp_dtls_drop(dtls, "another ClientHello while the handshake moves");
            return;
        }
        if (!restart(dtls, "the client started over"))
            return;
    }
    memcpy(dtls->hello_random, random, HELLO_RANDOM_LEN);
    unsigned restarts = dtls->restarts;
    advance(dtls, record, len);
    /* If this ClientHello has just ended the attempt, the next one is welcome whatever its random. */
    dtls->hello_known = restarts == dtls->restarts;
}

static bool takes_records(const dp_dtls *dtls)
{
    return dtls->state == DP_DTLS_CONNECTING && dtls->pause_end == DP_TIME_NEVER;
}

/* A record whose fragments are all of ClientHello; prefilter has checked each of them. */
static void client_hello_fragments(dp_dtls *dtls, const dp_record *record, const uint8_t *bytes)
{
    dp_rd rd = dp_rd_init(record->body, record->length);
    dp_fragment fragment;
    while (takes_records(dtls) && dp_rd_left(&rd) > 0 && dp_fragment_read(&fragment, &rd)) {
        if (fragment.body_len == fragment.length && record->length == DP_HANDSHAKE_HEADER + fragment.length) {
            client_hello(dtls, bytes, DP_RECORD_HEADER + record->length, fragment.body, fragment.body_len);
            return;
        }
        const uint8_t *joined = NULL;
        size_t joined_len = 0;
        switch (dp_reassembly_add(&dtls->reassembly, &joined, &joined_len, dtls->now, record, &fragment)) {
        case DP_REASSEMBLY_MORE:
            break;
        case DP_REASSEMBLY_DROPPED:
            dp_dtls_drop(dtls, "ClientHello fragment");
            break;
        case DP_REASSEMBLY_COMPLETE:
            client_hello(dtls, joined, joined_len, joined + DP_RECORD_HEADER + DP_HANDSHAKE_HEADER,
                         fragment.length);
            break;
        }
    }
}

/* A client in the middle of a handshake whose server side is gone: mbedTLS does not send an alert for every
 * failure, and the alert may be lost, so each repetition of the client's flight is answered with one. A
 * browser ends there; a client of ours starts over (CLIENT_STALLED). The record numbers lie between those of the attempts
 * before and those of the next one (renumber in handshake.c). */
static void answer_orphan(dp_dtls *dtls)
{
    dp_outgoing *item = dp_queue_push(&dtls->out);
    if (item == NULL)
        return;
    dp_wr wr = dp_wr_init(item->data, dtls->config.mtu);
    dp_wr_u8(&wr, DP_RECORD_ALERT);
    dp_wr_u16(&wr, DP_RECORD_VERSION);
    dp_wr_u16(&wr, 0);
    dp_wr_u48(&wr, ((uint64_t)dtls->restarts << 32) - (UINT64_C(1) << 31) + dtls->dropped);
    dp_wr_u16(&wr, 2);
    dp_wr_u8(&wr, DP_ALERT_FATAL);
    dp_wr_u8(&wr, DP_ALERT_HANDSHAKE_FAILURE);
    (void)dp_wr_finish(&wr, &item->length);
}

void dp_dtls_handshake_record(dp_dtls *dtls, const dp_record *record, const uint8_t *bytes)
{
    if (!takes_records(dtls)) {
        dp_dtls_drop(dtls, "record between two attempts");
        return;
    }
    switch (dp_prefilter(record, dtls->config.role)) {
    case DP_VERDICT_PASS:
        if (dtls->config.role == DP_DTLS_SERVER && !dtls->hello_known) {
            dp_dtls_drop(dtls, "handshake without a ClientHello");
            if (dtls->restarts > 0 && record->epoch == 0 && record->type == DP_RECORD_HANDSHAKE)
                answer_orphan(dtls);
            return;
        }
        if (record->epoch == 1 && !is_authentic(dtls, record)) {
            dp_dtls_drop(dtls, "forged or early Finished");
            return;
        }
        dtls->heard = true;
        advance(dtls, bytes, DP_RECORD_HEADER + record->length);
        return;
    case DP_VERDICT_CLIENT_HELLO:
        client_hello_fragments(dtls, record, bytes);
        return;
    case DP_VERDICT_ALERT:
        if (record->body[0] == DP_ALERT_FATAL)
            dtls->alert = dtls->last_alert = record->body[1];
        dp_dtls_drop(dtls, "unauthenticated alert");
        return;
    case DP_VERDICT_DROP:
        break;
    }
    dp_dtls_drop(dtls, "record that does not belong into a handshake");
}
