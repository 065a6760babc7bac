/* dp_sctp: the life of the association and the events of its channels. */
#include "internal.h"

#include "base/config.h"
#include "base/mem.h"
#include "filter.h"

#include <string.h>

/* Limits of one association. The buffers are what may be in flight: throughput is at most buffer / round-trip
 * time, 40 MB/s at 100 ms. They are not allocated ahead. */
#define DEFAULT_MTU              1160u
#define MIN_MTU                  524u   /* usrsctp takes no path MTU below 512 */
#define MAX_MTU                  16384u /* a DTLS record, and sender.c has room for two */
#define DEFAULT_MAX_MESSAGE_SIZE 262144u
#define MAX_MESSAGE_SIZE         (64u << 20)
#define MIN_PART                 1024u
#define DEFAULT_SEND_BUFFER      (4u << 20)
#define DEFAULT_RECEIVE_BUFFER   (4u << 20)
#define MIN_BUFFER               16384u
#define MAX_BUFFER               (64u << 20)
#define DEFAULT_MAX_CHANNELS     1024u
#define DEFAULT_INITIAL_CHANNELS 128u

static void set_state(dp_sctp *sctp, dp_sctp_state state)
{
    static const char *const names[] = {"new", "connecting", "up", "down"};
    DP_LOG(&sctp->log, DP_LOG_DEBUG, "sctp", "association: %s -> %s", names[sctp->state], names[state]);
    sctp->state = state;
}

/* ---- life -------------------------------------------------------------------------------------- */

static void fill(size_t *value, size_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static bool config_valid(dp_sctp_config *config)
{
    fill(&config->mtu, DEFAULT_MTU);
    fill(&config->max_message_size, DEFAULT_MAX_MESSAGE_SIZE);
    fill(&config->send_buffer_size, DEFAULT_SEND_BUFFER);
    fill(&config->receive_buffer_size, DEFAULT_RECEIVE_BUFFER);
    if (config->max_channels == 0)
        config->max_channels = DEFAULT_MAX_CHANNELS;
    if (config->initial_channels == 0)
        config->initial_channels = DEFAULT_INITIAL_CHANNELS;
    if (config->max_size_in_parts > 0 &&
        (config->max_size_in_parts < config->max_message_size || config->max_message_size < MIN_PART))
        return false;
    return config->mtu >= MIN_MTU && config->mtu <= MAX_MTU && config->max_message_size <= MAX_MESSAGE_SIZE &&
           config->send_buffer_size >= MIN_BUFFER && config->send_buffer_size <= MAX_BUFFER &&
           config->receive_buffer_size >= MIN_BUFFER && config->receive_buffer_size <= MAX_BUFFER &&
           config->max_channels < UINT16_MAX && config->initial_channels < UINT16_MAX;
}

/* Ids 0 to channels-1, or one more so that both sides have some. */
static uint16_t both_parities(uint16_t channels) { return (uint16_t)(channels + channels % 2); }

int dp_sctp_new(dp_sctp **out, const dp_sctp_config *config)
{
    dp_sctp_config read = {0};
    if (!DP_CONFIG_READ(&read, config, dp_sctp_config, log) || read.random.fn == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    dp_sctp *sctp = (dp_sctp *)dp_calloc(1, sizeof *sctp);
    if (sctp == NULL)
        return DP_ERR_NO_MEMORY;
    sctp->config = read;
    sctp->log = read.log;
    if (!config_valid(&sctp->config)) {
        dp_free(sctp);
        return DP_ERR_INVALID_ARGUMENT;
    }
    sctp->stream_limit = both_parities(sctp->config.max_channels);
    *out = sctp;
    return DP_OK;
}

void dp_sctp_free(dp_sctp *sctp)
{
    if (sctp == NULL)
        return;
    dp_association_free(sctp->association);
    while (sctp->channels != NULL)
        dp_channel_free(sctp->channels);
    dp_receive_clear(sctp);
    dp_free(sctp->streams);
    dp_free(sctp);
}

static void set_path(dp_sctp *sctp, dp_time now)
{
    dp_association_set_path(sctp->association, now, sctp->path_ceiling, sctp->path_round_trip,
                            &sctp->config.random);
}

int dp_sctp_start(dp_sctp *sctp, dp_time now, bool dtls_client, uint16_t remote_port,
                  size_t remote_max_message_size)
{
    if (sctp->state != DP_SCTP_NEW)
        return DP_ERR_INVALID_STATE;
    if (remote_port == 0)
        return DP_ERR_INVALID_ARGUMENT;
    sctp->now = now;
    uint16_t initial = both_parities(sctp->config.initial_channels);
    dp_association_config config = {
        .mtu = sctp->config.mtu,
        .send_buffer_size = sctp->config.send_buffer_size,
        .receive_buffer_size = sctp->config.receive_buffer_size,
        .max_message_size = sctp->config.max_message_size,
        .streams = initial < sctp->stream_limit ? initial : sctp->stream_limit,
        .max_streams = sctp->stream_limit,
        .local_port = DP_SCTP_LOCAL_PORT,
        .remote_port = remote_port,
        .interleaving = !sctp->config.no_interleaving,
    };
    int error = dp_association_new(&sctp->association, now, &config);
    if (error != DP_OK)
        return error;
    set_path(sctp, now);
    sctp->dtls_client = dtls_client;
    sctp->remote_port = remote_port;
    sctp->remote_max_message_size = remote_max_message_size;
    set_state(sctp, DP_SCTP_CONNECTING);
    dp_channel_assign_all(sctp);
    return DP_OK;
}

void dp_sctp_went_up(dp_sctp *sctp, uint16_t outgoing_streams, uint16_t incoming_streams)
{
    if (sctp->state != DP_SCTP_CONNECTING)
        return;
    set_state(sctp, DP_SCTP_UP);
    if (dp_association_interleaves(sctp->association))
        DP_LOG(&sctp->log, DP_LOG_DEBUG, "sctp", "messages are interleaved");
    sctp->connected_pending = true;
    dp_streams_up(sctp, outgoing_streams, incoming_streams);
    dp_channel_association_up(sctp);
}

void dp_sctp_went_down(dp_sctp *sctp, int error)
{
    if (sctp->state == DP_SCTP_DOWN)
        return;
    set_state(sctp, DP_SCTP_DOWN);
    sctp->error = error;
    for (dp_channel *channel = sctp->channels; channel != NULL; channel = channel->next)
        dp_channel_finish(channel);
}

void dp_sctp_fail(dp_sctp *sctp, int error)
{
    if (sctp->state == DP_SCTP_DOWN)
        return;
    if (sctp->association != NULL)
        dp_association_abort(sctp->association);
    dp_sctp_went_down(sctp, error);
}

void dp_sctp_abort(dp_sctp *sctp, dp_time now)
{
    sctp->now = now;
    dp_sctp_fail(sctp, DP_OK);
}

/* ---- the five verbs ---------------------------------------------------------------------------- */

/* What the call before gave out ends with this one. */
static void enter(dp_sctp *sctp, dp_time now)
{
    sctp->now = now;
    if (sctp->reap != NULL)
        dp_channel_free(sctp->reap);
    sctp->reap = NULL;
    dp_receive_release(sctp);
}

void dp_sctp_input(dp_sctp *sctp, dp_time now, const uint8_t *data, size_t len)
{
    enter(sctp, now);
    if (sctp->association == NULL || sctp->state == DP_SCTP_DOWN) {
        sctp->dropped++;
        return;
    }
    int error = dp_association_input(sctp->association, now, data, len);
    if (error != DP_OK) {
        sctp->dropped++;
        DP_LOG(&sctp->log, DP_LOG_DEBUG, "sctp", "packet of %zu bytes dropped: %s", len, dp_strerror(error));
        return;
    }
    dp_channel_pump(sctp);
}

void dp_sctp_handle_timeout(dp_sctp *sctp, dp_time now)
{
    enter(sctp, now);
    if (sctp->association == NULL || sctp->state == DP_SCTP_DOWN)
        return;
    dp_association_tick(sctp->association, now);
    dp_stream_retry_resets(sctp);
    dp_streams_check_deadline(sctp);
    dp_channel_check_deadlines(sctp);
    dp_send_expire(sctp);
    dp_receive_shrink(sctp);
    dp_channel_pump(sctp);
}

dp_time dp_sctp_next_timeout(const dp_sctp *sctp)
{
    if (sctp->association == NULL || sctp->state == DP_SCTP_DOWN)
        return DP_TIME_NEVER;
    bool busy =
        sctp->closing_count > 0 || sctp->resets_open || sctp->streams_wanted > 0 || sctp->ready_head != NULL;
    return dp_association_next_tick(sctp->association, busy);
}

bool dp_sctp_poll_transmit(dp_sctp *sctp, const uint8_t **data, size_t *len)
{
    return sctp->association != NULL && dp_association_poll_transmit(sctp->association, data, len);
}

void dp_sctp_set_path(dp_sctp *sctp, dp_time now, size_t largest, dp_duration round_trip)
{
    sctp->path_ceiling = largest < MAX_MTU ? largest : MAX_MTU;
    sctp->path_round_trip = round_trip;
    if (sctp->association != NULL)
        set_path(sctp, now);
}

bool dp_sctp_poll_probe(dp_sctp *sctp, dp_time now, const uint8_t **data, size_t *len)
{
    return sctp->association != NULL && dp_association_poll_probe(sctp->association, now, data, len);
}

/* The first of the channel's events; the channel leaves the list with its last one. */
static void channel_event(dp_sctp *sctp, dp_sctp_event *event)
{
    dp_channel *channel = sctp->event_head;
    event->channel = channel;
    event->incoming = channel->incoming;
    if ((channel->pending & DP_PENDING_OPEN) != 0) {
        channel->pending &= ~(unsigned)DP_PENDING_OPEN;
        channel->was_open = true;
        sctp->opened++;
        event->type = DP_SCTP_EVENT_CHANNEL_OPEN;
    } else if ((channel->pending & DP_PENDING_LOW) != 0) {
        channel->pending &= ~(unsigned)DP_PENDING_LOW;
        event->type = DP_SCTP_EVENT_BUFFERED_AMOUNT_LOW;
    } else if ((channel->pending & DP_PENDING_PART) != 0) {
        channel->pending &= ~(unsigned)DP_PENDING_PART;
        event->type = DP_SCTP_EVENT_MESSAGE_PART;
        event->last = true;
        event->error = channel->part_error;
    } else if ((channel->pending & DP_PENDING_ERROR) != 0) {
        channel->pending &= ~(unsigned)DP_PENDING_ERROR;
        event->type = DP_SCTP_EVENT_CHANNEL_ERROR;
        event->error = channel->error;
    } else {
        channel->pending = 0;
        sctp->closed += channel->was_open;
        event->type = DP_SCTP_EVENT_CHANNEL_CLOSED;
        event->error = channel->error;
        sctp->reap = channel;
    }
    if (channel->pending != 0)
        return;
    channel->has_event = false;
    sctp->event_head = channel->next_event;
    if (sctp->event_head == NULL)
        sctp->event_tail = NULL;
}

/* A LOW may have been taken back since it was noted: then the channel's entry in the list is empty. */
static void prune_events(dp_sctp *sctp)
{
    while (sctp->event_head != NULL && sctp->event_head->pending == 0) {
        sctp->event_head->has_event = false;
        sctp->event_head = sctp->event_head->next_event;
    }
    if (sctp->event_head == NULL)
        sctp->event_tail = NULL;
}

bool dp_sctp_poll_event(dp_sctp *sctp, dp_sctp_event *event)
{
    enter(sctp, sctp->now);
    memset(event, 0, sizeof *event);
    do { /* what is read may take back the only event that it has brought up itself */
        prune_events(sctp);
        if (dp_receive_poll(sctp, event))
            return true;
    } while (sctp->event_head != NULL && sctp->event_head->pending == 0);
    if (sctp->connected_pending) {
        sctp->connected_pending = false;
        event->type = DP_SCTP_EVENT_CONNECTED;
        return true;
    }
    if (sctp->event_head != NULL) {
        channel_event(sctp, event);
        return true;
    }
    if (sctp->state == DP_SCTP_DOWN && !sctp->closed_reported) {
        sctp->closed_reported = true;
        dp_receive_clear(sctp);
        event->type = DP_SCTP_EVENT_CLOSED;
        event->error = sctp->error;
        return true;
    }
    return false;
}

void dp_sctp_get_stats(const dp_sctp *sctp, dp_sctp_stats *out)
{
    memset(out, 0, sizeof *out);
    if (sctp->association != NULL)
        dp_association_get_stats(sctp->association, out);
    out->data_channels_opened = sctp->opened;
    out->data_channels_closed = sctp->closed;
}
