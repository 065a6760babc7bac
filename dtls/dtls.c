/* The connection: routes records to the attempts at a handshake or to the record protection, and keeps the state. */
#include <datapeer/dtls.h>

#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/mem.h"
#include "internal.h"

#define MTU_DEFAULT               1200
#define MTU_MIN                   508 /* mbedTLS's own floor; a flight's messages are cut to fit */
#define MTU_MAX                   9000
#define HANDSHAKE_TIMEOUT_DEFAULT DP_SECONDS(30)
#define HANDSHAKE_TIMEOUT_MAX     DP_SECONDS(600) /* record.c and renumber in handshake.c rely on it */
#define OUT_MAX                   32              /* datagrams; the longest flight takes 3 */

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

void dp_dtls_set_state(dp_dtls *dtls, dp_dtls_state state)
{
    if ((transitions[dtls->state] & TO(state)) == 0) {
        DP_LOG(&dtls->config.log, DP_LOG_ERROR, LAYER, "forbidden transition from %s to %s",
               state_names[dtls->state], state_names[state]);
        return;
    }
    DP_LOG(&dtls->config.log, DP_LOG_INFO, LAYER, "%s -> %s", state_names[dtls->state], state_names[state]);
    dtls->state = state;
}

void dp_dtls_drop(dp_dtls *dtls, const char *why)
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
        dp_dtls_drop(dtls, "the rest of a datagram behind the end");
    dtls->in_left = 0;
    dp_dtls_set_state(dtls, state);
}

void dp_dtls_fail(dp_dtls *dtls, int error, const char *format, ...)
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
        dp_dtls_drop(dtls, "alert of a wrong length");
        return;
    }
    if (alert[1] == DP_ALERT_CLOSE_NOTIFY) {
        /* RFC 5246 §7.2.1: answered with one of our own. */
        queue_alert(dtls, DP_ALERT_WARNING, DP_ALERT_CLOSE_NOTIFY);
        dtls->event_end = true;
        end(dtls, DP_DTLS_CLOSED);
    } else if (alert[0] == DP_ALERT_FATAL) {
        dp_dtls_fail(dtls, DP_ERR_REMOTE, "the peer ended the connection with alert %u", (unsigned)alert[1]);
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
        dp_dtls_drop(dtls, "handshake message after the handshake");
}

static void sealed_record(dp_dtls *dtls, const dp_record *record, uint8_t *bytes)
{
    uint8_t *plain = NULL;
    size_t len = 0;
    if (!dp_protection_open(&dtls->protection, &plain, &len, record, bytes + DP_RECORD_HEADER)) {
        dp_dtls_drop(dtls, "forged, altered or replayed record, or one of the handshake");
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
            dp_dtls_drop(dtls, "not a DTLS record");
            dtls->in_left = 0;
            return;
        }
        uint8_t *bytes = dtls->in;
        dtls->in += DP_RECORD_HEADER + record.length;
        dtls->in_left -= DP_RECORD_HEADER + record.length;
        if (dtls->state == DP_DTLS_CONNECTING)
            dp_dtls_handshake_record(dtls, &record, bytes);
        else
            sealed_record(dtls, &record, bytes);
    }
}

void dp_dtls_input(dp_dtls *dtls, dp_time now, uint8_t *data, size_t len)
{
    dtls->now = now;
    if (dtls->state != DP_DTLS_CONNECTING && dtls->state != DP_DTLS_CONNECTED) {
        dp_dtls_drop(dtls, "datagram before the start or after the end");
        return;
    }
    if (dtls->in_left > 0)
        dp_dtls_drop(dtls, "the rest of a datagram whose events were not polled");
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
        dp_dtls_fail(dtls, DP_ERR_LIMIT, "the record numbers are used up");
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
