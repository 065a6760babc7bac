/* The connection: routes records between the prefilter, the handshake and the record protection, and keeps
 * the state. */
#include <datapeer/dtls.h>

#include <mbedtls/error.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/wr.h"
#include "handshake.h"
#include "reassembly.h"

#define LAYER "dtls"

#define FINGERPRINTS_MAX          8
#define MTU_DEFAULT               1200
#define MTU_MIN                   508 /* mbedTLS's own floor; a flight's messages are cut to fit */
#define MTU_MAX                   9000
#define HANDSHAKE_TIMEOUT_DEFAULT DP_SECONDS(30)
#define HANDSHAKE_TIMEOUT_MAX     DP_SECONDS(600) /* record.c and renumber in handshake.c rely on it */
#define OUT_MAX                   32              /* datagrams; the longest flight takes 3 */

/* A context that a record has ended is replaced by a fresh one: so many times at once, then one a second up to the
 * deadline. No number of forged records is the end, and they do not cost us many milliseconds of elliptic curves. */
#define RESTARTS_AT_ONCE 8
#define RESTART_PAUSE    DP_SECONDS(1)
/* A server takes a ClientHello with a new random for a client that started over, if its own attempt stands
 * still. */
#define SERVER_STALLED DP_SECONDS(1)
/* A client starts over if nothing moves for so long, see is_stuck. */
#define CLIENT_STALLED DP_SECONDS(3)

#define HELLO_RANDOM_AT  2 /* behind client_version */
#define HELLO_RANDOM_LEN 32

struct dp_dtls {
    dp_dtls_config config;
    dp_dtls_state state;
    dp_fingerprint fingerprints[FINGERPRINTS_MAX];
    size_t fingerprint_count;

    dp_time deadline;
    dp_handshake *handshake; /* while CONNECTING */
    unsigned restarts;
    dp_time pause_end;               /* the attempt is over, the next one begins then; NEVER: it goes on */
    uint8_t seed[DP_HANDSHAKE_SEED]; /* of the attempt */
    bool mismatched;         /* a certificate with another fingerprint has come, or too long a chain */
    dp_fingerprint mismatch; /* that fingerprint; length 0: none */
    int progress;
    dp_time progressed;
    bool heard;     /* records that mbedTLS got since then */
    int alert;      /* description of the last unauthenticated alert, -1: none since the last progress */
    int last_alert; /* the same over all attempts, for the error message */
    int last_error; /* what ended the last attempt, mbedTLS's number; 0: nothing yet */
    dp_reassembly reassembly;
    bool hello_known;
    uint8_t hello_random[HELLO_RANDOM_LEN];

    dp_protection protection; /* as soon as the attempt has keys */
    bool have_keys;
    dp_srtp_keys srtp;
    uint8_t last_flight[DP_LAST_FLIGHT_MAX]; /* a server's */
    size_t last_flight_len;
    size_t record_max; /* of the application data in a record */
    dp_queue out;      /* of dp_outgoing */

    uint8_t *in; /* what is left of the datagram */
    size_t in_left;
    dp_time now;

    bool event_connected;
    uint8_t *event_data; /* NULL: none */
    size_t event_data_len;
    bool event_end; /* CLOSED or FAILED, by state */
    int error;
    char message[512];
    uint64_t dropped;
};

/* ---- state ------------------------------------------------------------------------------------------ */

static const char *const state_names[] = {"new", "connecting", "connected", "closed", "failed"};

#define TO(state) (1u << (state))
static const unsigned transitions[] = {
    [DP_DTLS_NEW] = TO(DP_DTLS_CONNECTING) | TO(DP_DTLS_CLOSED) | TO(DP_DTLS_FAILED),
    [DP_DTLS_CONNECTING] = TO(DP_DTLS_CONNECTED) | TO(DP_DTLS_CLOSED) | TO(DP_DTLS_FAILED),
    [DP_DTLS_CONNECTED] = TO(DP_DTLS_CLOSED) | TO(DP_DTLS_FAILED),
    [DP_DTLS_CLOSED] = 0,
    [DP_DTLS_FAILED] = 0,
};

static void set_state(dp_dtls *dtls, dp_dtls_state state)
{
    if ((transitions[dtls->state] & TO(state)) == 0) {
        DP_LOG(&dtls->config.log, DP_LOG_ERROR, LAYER, "forbidden transition from %s to %s",
               state_names[dtls->state], state_names[state]);
        return;
    }
    DP_LOG(&dtls->config.log, DP_LOG_INFO, LAYER, "%s -> %s", state_names[dtls->state], state_names[state]);
    dtls->state = state;
}

static void drop(dp_dtls *dtls, const char *why)
{
    dtls->dropped++;
    DP_LOG(&dtls->config.log, DP_LOG_DEBUG, LAYER, "dropped: %s", why);
}

/* Ends the connection: everything but the outgoing queue, the pending events and the message goes. */
static void end(dp_dtls *dtls, dp_dtls_state state)
{
    dp_handshake_free(dtls->handshake);
    dtls->handshake = NULL;
    dp_reassembly_clear(&dtls->reassembly);
    dp_protection_clear(&dtls->protection);
    dp_wipe(&dtls->srtp, sizeof dtls->srtp);
    dp_wipe(dtls->seed, sizeof dtls->seed);
    if (dtls->in_left > 0)
        drop(dtls, "the rest of a datagram behind the end");
    dtls->in_left = 0;
    set_state(dtls, state);
}

DP_PRINTF(3, 4)
static void fail(dp_dtls *dtls, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(dtls->message, sizeof dtls->message, format, args);
    va_end(args);
    DP_LOG(&dtls->config.log, DP_LOG_WARN, LAYER, "%s", dtls->message);
    dtls->error = error;
    dtls->event_end = true;
    end(dtls, DP_DTLS_FAILED);
}

/* ---- life ------------------------------------------------------------------------------------------- */

int dp_dtls_new(dp_dtls **out, const dp_dtls_config *config)
{
    dp_dtls_config read = {0};
    if (out == NULL || !DP_CONFIG_READ(&read, config, dp_dtls_config, mtu) || read.random.fn == NULL ||
        read.certificate == NULL || (read.role != DP_DTLS_CLIENT && read.role != DP_DTLS_SERVER))
        return DP_ERR_INVALID_ARGUMENT;
    dp_dtls *dtls = dp_calloc(1, sizeof *dtls);
    if (dtls == NULL)
        return DP_ERR_NO_MEMORY;
    dtls->config = read;
    if (dtls->config.mtu == 0)
        dtls->config.mtu = MTU_DEFAULT;
    if (dtls->config.handshake_timeout == 0)
        dtls->config.handshake_timeout = HANDSHAKE_TIMEOUT_DEFAULT;
    if (dtls->config.mtu < MTU_MIN || dtls->config.mtu > MTU_MAX ||
        dtls->config.handshake_timeout > HANDSHAKE_TIMEOUT_MAX) {
        dp_free(dtls);
        return DP_ERR_INVALID_ARGUMENT;
    }
    dtls->alert = -1;
    dtls->last_alert = -1;
    /* Rounded up, so that each item's length is aligned. */
    size_t item =
        (sizeof(dp_outgoing) + dtls->config.mtu + sizeof(size_t) - 1) / sizeof(size_t) * sizeof(size_t);
    dp_queue_init(&dtls->out, item, OUT_MAX);
    *out = dtls;
    return DP_OK;
}

void dp_dtls_free(dp_dtls *dtls)
{
    if (dtls == NULL)
        return;
    dp_handshake_free(dtls->handshake);
    dp_reassembly_clear(&dtls->reassembly);
    dp_protection_clear(&dtls->protection);
    dp_wipe(&dtls->srtp, sizeof dtls->srtp);
    dp_wipe(dtls->seed, sizeof dtls->seed);
    dp_queue_clear(&dtls->out);
    dp_free(dtls);
}

int dp_dtls_set_remote_fingerprints(dp_dtls *dtls, const dp_fingerprint *fingerprints, size_t count)
{
    size_t strongest = 0;
    if (fingerprints == NULL || count == 0 || count > FINGERPRINTS_MAX)
        return DP_ERR_INVALID_ARGUMENT;
    for (size_t i = 0; i < count; i++) {
        size_t length = fingerprints[i].algorithm == DP_FINGERPRINT_SHA256   ? 32
                        : fingerprints[i].algorithm == DP_FINGERPRINT_SHA384 ? 48
                        : fingerprints[i].algorithm == DP_FINGERPRINT_SHA512 ? 64
                                                                             : 0;
        if (length == 0 || fingerprints[i].length != length)
            return DP_ERR_INVALID_ARGUMENT;
        if (length > strongest)
            strongest = length;
    }
    if (dtls->state != DP_DTLS_NEW)
        return DP_ERR_INVALID_STATE;
    /* RFC 8122 §5: the certificate MUST match one of the most secure hash; a match of a weaker one is no
     * excuse. */
    dtls->fingerprint_count = 0;
    for (size_t i = 0; i < count; i++)
        if (fingerprints[i].length == strongest)
            dtls->fingerprints[dtls->fingerprint_count++] = fingerprints[i];
    return DP_OK;
}

dp_dtls_state dp_dtls_get_state(const dp_dtls *dtls) { return dtls->state; }

uint64_t dp_dtls_get_dropped(const dp_dtls *dtls) { return dtls->dropped; }

/* ---- handshake -------------------------------------------------------------------------------------- */

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
        fail(dtls, err, "the handshake cannot begin again: %s", dp_strerror(err));
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
        fail(dtls, err, "no record keys: %s", dp_strerror(err));
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
    set_state(dtls, DP_DTLS_CONNECTED);
}

static void refused(dp_dtls *dtls)
{
    char expected_text[DP_FINGERPRINT_TEXT_MAX];
    char peer_text[DP_FINGERPRINT_TEXT_MAX];
    if (dtls->mismatch.length == 0) {
        fail(dtls, DP_ERR_AUTH, "the peer sent no certificate, or too long a chain");
        return;
    }
    dp_fingerprint_format(&dtls->fingerprints[0], expected_text);
    dp_fingerprint_format(&dtls->mismatch, peer_text);
    fail(dtls, DP_ERR_FINGERPRINT, "certificate mismatch: expected %s, the peer has %s", expected_text,
         peer_text);
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
    set_state(dtls, DP_DTLS_CONNECTING);
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
        fail(dtls, DP_ERR_TIMEOUT, "the handshake timed out after %llu ms, attempt %u%s",
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

/* A whole ClientHello; record is what mbedTLS gets, body the message. */
static void client_hello(dp_dtls *dtls, const uint8_t *record, size_t len, const uint8_t *body,
                         size_t body_len)
{
    if (body_len < HELLO_RANDOM_AT + HELLO_RANDOM_LEN) {
        drop(dtls, "short ClientHello");
        return;
    }
    const uint8_t *random = body + HELLO_RANDOM_AT;
    if (dtls->hello_known && memcmp(random, dtls->hello_random, HELLO_RANDOM_LEN) != 0) {
        if (dtls->now - dtls->progressed < SERVER_STALLED) {
            drop(dtls, "another ClientHello while the handshake moves");
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
            drop(dtls, "ClientHello fragment");
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

static void handshake_record(dp_dtls *dtls, const dp_record *record, const uint8_t *bytes)
{
    if (!takes_records(dtls)) {
        drop(dtls, "record between two attempts");
        return;
    }
    switch (dp_prefilter(record, dtls->config.role)) {
    case DP_VERDICT_PASS:
        if (dtls->config.role == DP_DTLS_SERVER && !dtls->hello_known) {
            drop(dtls, "handshake without a ClientHello");
            if (dtls->restarts > 0 && record->epoch == 0 && record->type == DP_RECORD_HANDSHAKE)
                answer_orphan(dtls);
            return;
        }
        if (record->epoch == 1 && !is_authentic(dtls, record)) {
            drop(dtls, "forged or early Finished");
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
        drop(dtls, "unauthenticated alert");
        return;
    case DP_VERDICT_DROP:
        break;
    }
    drop(dtls, "record that does not belong into a handshake");
}

/* ---- sealed records --------------------------------------------------------------------------------- */

static void queue_alert(dp_dtls *dtls, uint8_t level, uint8_t description)
{
    uint8_t alert[2] = {level, description};
    dp_outgoing *item = dp_queue_push(&dtls->out);
    if (item != NULL && dp_protection_seal(&dtls->protection, item->data, dtls->config.mtu, &item->length,
                                           DP_RECORD_ALERT, alert, sizeof alert) != DP_OK)
        item->length = 0; /* poll_transmit skips it */
}

static void alert_record(dp_dtls *dtls, const uint8_t *alert, size_t len)
{
    if (len != 2) {
        drop(dtls, "alert of a wrong length");
        return;
    }
    if (alert[1] == DP_ALERT_CLOSE_NOTIFY) {
        /* RFC 5246 §7.2.1: answered with one of our own. */
        queue_alert(dtls, DP_ALERT_WARNING, DP_ALERT_CLOSE_NOTIFY);
        dtls->event_end = true;
        end(dtls, DP_DTLS_CLOSED);
    } else if (alert[0] == DP_ALERT_FATAL) {
        fail(dtls, DP_ERR_REMOTE, "the peer ended the connection with alert %u", (unsigned)alert[1]);
    }
}

/* RFC 6347 §4.2.4: the client sends its last flight again, because ours was lost. The same bytes serve: the client
 * has not seen their record number, and what is sealed twice with one nonce is one text. */
static void repeat_last_flight(dp_dtls *dtls)
{
    dp_outgoing *item = dp_queue_push(&dtls->out);
    if (item == NULL)
        return;
    item->length = dtls->last_flight_len;
    memcpy(item->data, dtls->last_flight, dtls->last_flight_len);
}

static void sealed_handshake(dp_dtls *dtls, const uint8_t *message, size_t len)
{
    bool server = dtls->config.role == DP_DTLS_SERVER;
    int type = len > 0 ? message[0] : -1;
    if (type == DP_HANDSHAKE_FINISHED && dtls->last_flight_len > 0)
        repeat_last_flight(dtls);
    else if (type == (server ? DP_HANDSHAKE_CLIENT_HELLO : DP_HANDSHAKE_HELLO_REQUEST))
        queue_alert(dtls, DP_ALERT_WARNING, DP_ALERT_NO_RENEGOTIATION); /* RFC 8827 §6.5 */
    else
        drop(dtls, "handshake message after the handshake");
}

static void sealed_record(dp_dtls *dtls, const dp_record *record, uint8_t *bytes)
{
    uint8_t *plain = NULL;
    size_t len = 0;
    if (!dp_protection_open(&dtls->protection, &plain, &len, record, bytes + DP_RECORD_HEADER)) {
        drop(dtls, "forged, altered or replayed record, or one of the handshake");
        return;
    }
    if (record->type == DP_RECORD_HANDSHAKE) {
        sealed_handshake(dtls, plain, len);
    } else if (record->type == DP_RECORD_ALERT) {
        alert_record(dtls, plain, len);
    } else if (record->type == DP_RECORD_APPLICATION_DATA && len > 0) {
        dtls->event_data = plain;
        dtls->event_data_len = len;
    }
}

/* ---- in and out ------------------------------------------------------------------------------------- */

static bool event_pending(const dp_dtls *dtls)
{
    return dtls->event_connected || dtls->event_data != NULL || dtls->event_end;
}

/* Works through the datagram up to the next event. */
static void pump(dp_dtls *dtls)
{
    while (!event_pending(dtls) && dtls->in_left > 0) {
        dp_record record;
        dp_rd rd = dp_rd_init(dtls->in, dtls->in_left);
        if (!dp_record_read(&record, &rd)) {
            drop(dtls, "not a DTLS record");
            dtls->in_left = 0;
            return;
        }
        uint8_t *bytes = dtls->in;
        dtls->in += DP_RECORD_HEADER + record.length;
        dtls->in_left -= DP_RECORD_HEADER + record.length;
        if (dtls->state == DP_DTLS_CONNECTING)
            handshake_record(dtls, &record, bytes);
        else
            sealed_record(dtls, &record, bytes);
    }
}

void dp_dtls_input(dp_dtls *dtls, dp_time now, uint8_t *data, size_t len)
{
    dtls->now = now;
    if (dtls->state != DP_DTLS_CONNECTING && dtls->state != DP_DTLS_CONNECTED) {
        drop(dtls, "datagram before the start or after the end");
        return;
    }
    if (dtls->in_left > 0)
        drop(dtls, "the rest of a datagram whose events were not polled");
    dtls->event_data = NULL; /* its datagram is gone */
    dtls->in = data;
    dtls->in_left = len;
    pump(dtls);
}

const char *dp_dtls_cipher_suite(const dp_dtls *dtls)
{
    static const char *const names[] = {
        [DP_AEAD_AES_128_GCM] = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        [DP_AEAD_AES_256_GCM] = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        [DP_AEAD_CHACHA20_POLY1305] = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    };
    return dtls->state == DP_DTLS_CONNECTED ? names[dtls->protection.write.cipher] : NULL;
}

int dp_dtls_srtp_keys(const dp_dtls *dtls, dp_srtp_keys *out)
{
    if (dtls->state != DP_DTLS_CONNECTED)
        return DP_ERR_INVALID_STATE;
    if (dtls->srtp.profile == DP_SRTP_NONE)
        return DP_ERR_UNSUPPORTED;
    *out = dtls->srtp;
    return DP_OK;
}

bool dp_dtls_poll_event(dp_dtls *dtls, dp_dtls_event *event)
{
    memset(event, 0, sizeof *event);
    pump(dtls);
    if (dtls->event_connected) {
        event->type = DP_DTLS_EVENT_CONNECTED;
        dtls->event_connected = false;
        return true;
    }
    if (dtls->event_data != NULL) {
        event->type = DP_DTLS_EVENT_DATA;
        event->data = dtls->event_data;
        event->len = dtls->event_data_len;
        dtls->event_data = NULL;
        return true;
    }
    if (!dtls->event_end)
        return false;
    event->type = dtls->state == DP_DTLS_FAILED ? DP_DTLS_EVENT_FAILED : DP_DTLS_EVENT_CLOSED;
    event->error = dtls->error;
    event->message = dtls->message;
    dtls->event_end = false;
    return true;
}

bool dp_dtls_poll_transmit(dp_dtls *dtls, uint8_t *out, size_t capacity, size_t *len)
{
    const dp_outgoing *item = dp_queue_peek(&dtls->out);
    while (item != NULL && item->length == 0) {
        dp_queue_pop(&dtls->out, NULL);
        item = dp_queue_peek(&dtls->out);
    }
    if (item == NULL || item->length > capacity)
        return false;
    memcpy(out, item->data, item->length);
    *len = item->length;
    dp_queue_pop(&dtls->out, NULL);
    if (dp_queue_peek(&dtls->out) == NULL && dtls->state != DP_DTLS_CONNECTING)
        dp_queue_clear(&dtls->out);
    return true;
}

int dp_dtls_seal(dp_dtls *dtls, uint8_t *out, size_t capacity, size_t *out_len, const uint8_t *data,
                 size_t len)
{
    if (dtls->state != DP_DTLS_CONNECTED)
        return DP_ERR_INVALID_STATE;
    if (len > dtls->record_max)
        return DP_ERR_TOO_LARGE;
    int err =
        dp_protection_seal(&dtls->protection, out, capacity, out_len, DP_RECORD_APPLICATION_DATA, data, len);
    /* RFC 6347 §4.1: record numbers must not wrap, and there is no renegotiation for new keys. */
    if (err == DP_ERR_LIMIT)
        fail(dtls, DP_ERR_LIMIT, "the record numbers are used up");
    return err;
}

void dp_dtls_close(dp_dtls *dtls, dp_time now)
{
    dtls->now = now;
    if (dtls->state == DP_DTLS_CLOSED || dtls->state == DP_DTLS_FAILED)
        return;
    if (dtls->state == DP_DTLS_CONNECTED)
        queue_alert(dtls, DP_ALERT_WARNING, DP_ALERT_CLOSE_NOTIFY);
    dtls->event_connected = false;
    dtls->event_data = NULL;
    end(dtls, DP_DTLS_CLOSED);
}
