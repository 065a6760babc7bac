#include "sender.h"

#include "base/mem.h"
#include "chunk.h"

#include <string.h>

/* A SACK opens two packets, or after a recovery as many as usrsctp's maximum burst: there must be something to send. */
#define UNSENT_MAX     32768u
#define SAMPLE_EVERY   DP_MS(2)
#define STALLED_AFTER  DP_MS(400)
#define DELAY_LEAST    DP_MS(4)
#define DELAY_MOST     DP_MS(16)
#define REPEAT_AFTER   DP_MS(300)
#define LARGE_CHUNK    1024u /* bytes */
#define LEAST_WINDOW   16u
#define LARGE_WINDOW   128u
#define FULL_BYTES     786432u /* in a millisecond */
#define FULL_LEAST     192u    /* chunks */
#define FULL_MOST      1536u
#define FAR_ROUND_TRIP DP_MS(16)
#define MANY           128u
#define LOSS_PERCENT   2u /* as in BBRv2 (draft-cardwell-ccwg-bbr) */
#define LOSS_MARGIN    4u

void dp_sender_init(dp_sender *s)
{
    memset(s, 0, sizeof *s);
    s->unloaded = s->least = UINT64_MAX;
    s->window = UINT32_MAX;
    s->slow_start = true;
}

void dp_sender_clear(dp_sender *s)
{
    dp_free(s->forward);
    dp_sender_init(s);
}

uint32_t dp_sender_in_flight(const dp_sender *s) { return s->sent_tsn - s->acked_tsn; }

/* How many chunks a path takes: what this library can send in a round trip, 0.8 gigabytes a second, and as many as the ends
 * need so that neither waits for the other. More of them would only wait in line there, and here in usrsctp's lists, which
 * are slow when they leave the processor's cache. A path that is slow all the time is another one by now. */
static uint32_t path_is_full_with(const dp_sender *s)
{
    size_t i = 0;
    while (i < DP_SENDER_RECENT && s->recent[i] >= FAR_ROUND_TRIP)
        i++;
    dp_duration least = s->unloaded < s->least ? s->unloaded : s->least;
    if (least >= FAR_ROUND_TRIP || i == DP_SENDER_RECENT)
        return UINT32_MAX;
    uint32_t chunks = s->largest < FULL_BYTES / FULL_MOST ? FULL_MOST : (uint32_t)(FULL_BYTES / s->largest);
    return (chunks < FULL_LEAST ? FULL_LEAST : chunks) * (uint32_t)(least / DP_MS(1) + 1);
}

/* Nothing under way, nothing waits: usrsctp may have given up what it had, which it does not tell. And if it has given up
 * a message whose end it does not have, and its FORWARD-TSN is lost, it does nothing until there is new data: some goes
 * to it from time to time even if it is full. */
size_t dp_sender_room(dp_sender *s, dp_time now, uint32_t outstanding)
{
    if (dp_sender_in_flight(s) == 0)
        return outstanding < s->window ? UNSENT_MAX : 0;
    if (now - s->progress > STALLED_AFTER) {
        s->progress = now;
        s->unsent = 0;
        return UNSENT_MAX;
    }
    uint64_t spare =
        (uint64_t)dp_sender_spare(s, outstanding) * (s->largest < LARGE_CHUNK ? LARGE_CHUNK : s->largest);
    size_t most = spare < UNSENT_MAX ? (size_t)spare : UNSENT_MAX;
    return s->unsent < most ? most - s->unsent : 0;
}

uint32_t dp_sender_spare(const dp_sender *s, uint32_t under_way)
{
    uint32_t full = path_is_full_with(s), window = s->window < full ? s->window : full;
    return under_way < window ? window - under_way : 0;
}

void dp_sender_hand_over(dp_sender *s, size_t len)
{
    s->unsent = dp_sender_in_flight(s) == 0 ? len : s->unsent + len;
}

void dp_sender_take_back(dp_sender *s, size_t len) { s->unsent -= len < s->unsent ? len : s->unsent; }

static void sent(dp_sender *s, dp_time now, uint32_t tsn, size_t len)
{
    s->chunks_sent++;
    if (!s->begun) {
        s->begun = true;
        s->acked_tsn = tsn - 1;
        s->round_end = tsn;
    } else if (!dp_tsn_before(s->sent_tsn, tsn)) {
        s->chunks_retransmitted++;
        return;
    }
    s->sent_tsn = tsn;
    s->largest = len > s->largest ? len : s->largest;
    s->progress = now;
    dp_sender_take_back(s, len);
    size_t last = (s->first_sample + s->sample_count + DP_SENDER_SAMPLES - 1) % DP_SENDER_SAMPLES;
    if (s->sample_count == DP_SENDER_SAMPLES ||
        (s->sample_count > 0 && now - s->samples[last].sent < SAMPLE_EVERY))
        return;
    last = (s->first_sample + s->sample_count++) % DP_SENDER_SAMPLES;
    s->samples[last].tsn = tsn;
    s->samples[last].in_flight = dp_sender_in_flight(s);
    s->samples[last].sent = now;
}

/* All recent round trips are longer than the shortest ever: there is a queue. */
static bool is_delayed(const dp_sender *s)
{
    dp_duration tolerated = s->least / 8;
    tolerated = tolerated < DELAY_LEAST ? DELAY_LEAST : tolerated > DELAY_MOST ? DELAY_MOST : tolerated;
    for (size_t i = 0; i < DP_SENDER_RECENT; i++)
        if (s->recent[i] <= s->least + tolerated)
            return false;
    return s->recent_count >= DP_SENDER_RECENT;
}

/* Slow start in the manner of RFC 9406 (HyStart++): it ends when the round trip gets longer, and it does not double a
 * window that is large already, for the delay is seen a round late. usrsctp cannot be told so; but what is under way can
 * be held, and then grow as in congestion avoidance, faster in a round without delay: it may have been an accident. */
static void grow_window(dp_sender *s)
{
    if (is_delayed(s)) {
        s->window++;
    } else if (s->window < s->most) {
        s->window += (s->most - s->window + 3) / 4;
    } else {
        s->window += s->step;
        s->step = 2 * s->step < s->window / 4 ? 2 * s->step : s->window / 4;
    }
}

static void end_of_round(dp_sender *s, uint32_t in_flight)
{
    if (!s->slow_start && s->window / 2 < in_flight)
        grow_window(s);
    else if (s->slow_start && in_flight >= LARGE_WINDOW)
        s->window = in_flight + in_flight / 2;
    s->round_end = s->sent_tsn;
}

static void timed(dp_sender *s, dp_time now)
{
    dp_duration round_trip = now - s->samples[s->first_sample].sent;
    uint32_t in_flight = s->samples[s->first_sample].in_flight;
    s->first_sample = (s->first_sample + 1) % DP_SENDER_SAMPLES;
    s->sample_count--;
    s->recent[s->recent_count++ % DP_SENDER_RECENT] = round_trip;
    if (round_trip < s->least)
        s->least = round_trip;
    if (!s->slow_start || !is_delayed(s))
        return;
    s->slow_start = false;
    s->window = in_flight < LEAST_WINDOW ? LEAST_WINDOW : in_flight;
    s->step = s->window / 4;
}

static void reduce(dp_sender *s, uint32_t window)
{
    s->slow_start = false;
    s->window = window < LEAST_WINDOW ? LEAST_WINDOW : window;
    s->step = s->window / 64 + 1;
    s->recovering = true;
    s->period_end = s->sent_tsn;
}

/* Losses are congestion when they are many. */
void dp_sender_report(dp_sender *s, uint64_t lost, uint64_t delivered, uint32_t outstanding)
{
    uint64_t lost_now = lost - s->lost;
    uint64_t all = lost_now + delivered - s->delivered;
    bool over = !dp_tsn_before(s->acked_tsn, s->period_end);
    if (!s->recovering && lost_now > LOSS_MARGIN + (all < MANY ? MANY : all) * LOSS_PERCENT / 100) {
        s->most = outstanding;
        reduce(s, s->most / 10 * 7);
    } else if (over && (s->recovering || all >= MANY)) {
        s->recovering = false;
        s->period_end = s->sent_tsn;
    } else if (!s->recovering) {
        return;
    }
    s->lost = lost;
    s->delivered = delivered;
}

void dp_sender_path_changed(dp_sender *s, dp_duration round_trip)
{
    s->unloaded = round_trip > 0 ? round_trip : UINT64_MAX;
    s->least = UINT64_MAX;
    s->recent_count = 0;
    s->sample_count = 0;
}

void dp_sender_stalled(dp_sender *s)
{
    reduce(s, LEAST_WINDOW);
    dp_sender_path_changed(s, 0); /* or the way has become longer */
}

static void acked(dp_sender *s, dp_time now, uint32_t tsn)
{
    uint32_t in_flight = dp_sender_in_flight(s); /* before: of small chunks a SACK acknowledges most */
    s->acked_tsn = tsn;
    s->progress = now;
    while (s->sample_count > 0 && !dp_tsn_before(tsn, s->samples[s->first_sample].tsn))
        timed(s, now);
    if (!dp_tsn_before(tsn, s->round_end))
        end_of_round(s, in_flight);
}

static void keep_forward(dp_sender *s, dp_time now, const uint8_t *packet, const uint8_t *chunk, size_t len,
                         uint32_t tsn)
{
    s->forward_len = 0;
    if (dp_grow((void **)&s->forward, &s->forward_capacity, DP_SCTP_COMMON_HEADER + len, UINT16_MAX, 1) !=
        DP_OK)
        return;
    memcpy(s->forward, packet, DP_SCTP_COMMON_HEADER);
    memcpy(s->forward + DP_SCTP_COMMON_HEADER, chunk, len);
    s->forward_len = DP_SCTP_COMMON_HEADER + len;
    s->forward_tsn = tsn;
    s->forward_sent = now;
}

bool dp_sender_repeats(dp_sender *s, dp_time now, bool held, const uint8_t **packet, size_t *len)
{
    s->forward_held |= held;
    if (s->forward_len == 0 || held || (!s->forward_held && now - s->forward_sent < REPEAT_AFTER))
        return false;
    s->forward_held = false;
    if (!dp_tsn_before(s->acked_tsn, s->forward_tsn)) {
        s->forward_len = 0;
        return false;
    }
    s->forward_sent = now;
    *packet = s->forward;
    *len = s->forward_len;
    return true;
}

void dp_sender_output(dp_sender *s, dp_time now, const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    while (dp_chunk_next(&chunks, &chunk)) {
        size_t size = dp_rd_left(&chunk.value);
        const uint8_t *at = chunk.value.at - DP_SCTP_CHUNK_HEADER;
        uint32_t tsn = dp_rd_u32(&chunk.value);
        if (dp_chunk_is_data(chunk.type))
            sent(s, now, tsn, size - (dp_chunk_data_header(chunk.type) - DP_SCTP_CHUNK_HEADER));
        else if (chunk.type == DP_CHUNK_FORWARD_TSN)
            keep_forward(s, now, packet, at, DP_SCTP_CHUNK_HEADER + size, tsn);
    }
}

static void read_sack(dp_sender *s, dp_time now, dp_rd *body)
{
    uint32_t tsn = dp_rd_u32(body);
    dp_rd_skip(body, 4);
    if (dp_rd_u16(body) > 0) /* gap blocks: the cumulative TSN is late */
        s->sample_count = 0;
    if (!s->begun || !dp_tsn_before(s->acked_tsn, tsn))
        return;
    if (dp_tsn_before(s->sent_tsn, tsn))
        s->sent_tsn = tsn; /* what is given up before it is sent has a TSN, too */
    acked(s, now, tsn);
}

size_t dp_sender_input(dp_sender *s, dp_time now, const uint8_t *packet, size_t len)
{
    dp_rd chunks = dp_chunks(packet, len);
    dp_chunk chunk;
    size_t count = 0;
    while (dp_chunk_next(&chunks, &chunk)) {
        if (chunk.type == DP_CHUNK_SACK)
            read_sack(s, now, &chunk.value);
        count += dp_chunk_is_data(chunk.type) || dp_chunk_is_forward(chunk.type);
    }
    return count;
}
