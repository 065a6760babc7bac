/* What a TURN allocation knows of peers: permissions (RFC 8656 §9), channels (§12), and their data both ways (§11,
 * §12.4 to §12.7). */
#include "turn_state.h"

#include "base/rd.h"

#include <string.h>

#define CHANNEL_HEADER_LEN 4
#define TOGETHER           DP_SECONDS(10) /* permissions that fall due within it share a request */

/* ---- permissions ---- */

static const dp_turn_permission *find_permission(const dp_turn *turn, const dp_address *peer)
{
    dp_address ip = *peer;
    ip.port = 0;
    for (size_t i = 0; i < turn->permission_count; i++) {
        if (dp_address_equal(&turn->permissions[i].ip, &ip))
            return &turn->permissions[i];
    }
    return NULL;
}

static bool has_channel(const dp_turn *turn, const dp_address *ip)
{
    for (size_t i = 0; i < turn->channel_count; i++) {
        dp_address peer = turn->channels[i].peer;
        peer.port = 0;
        if (dp_address_equal(&peer, ip))
            return true;
    }
    return false;
}

/* A free place, or that of the oldest permission: a peer that roams for weeks, and restarts ICE each time, has left
 * that address long ago. Not one that has not been answered yet, nor one with a channel: a pair was selected there. */
static dp_turn_permission *place(dp_turn *turn, dp_time now)
{
    dp_turn_permission *p = turn->permissions;
    size_t i = 0;
    if (turn->permission_count < DP_TURN_MAX_PEERS)
        return &p[turn->permission_count++];
    while (i < DP_TURN_MAX_PEERS &&
           (p[i].request != NULL || p[i].due_at <= now || has_channel(turn, &p[i].ip)))
        i++;
    if (i == DP_TURN_MAX_PEERS)
        return NULL;
    memmove(&p[i], &p[i + 1], (DP_TURN_MAX_PEERS - 1 - i) * sizeof *p);
    return &p[DP_TURN_MAX_PEERS - 1];
}

int dp_turn_permit(dp_turn *turn, dp_time now, const dp_address *peer)
{
    if (peer->family == DP_FAMILY_NONE)
        return DP_ERR_INVALID_ARGUMENT;
    if (find_permission(turn, peer) != NULL)
        return DP_OK;
    dp_turn_permission *p = place(turn, now);
    if (p == NULL)
        return DP_ERR_LIMIT;
    *p = (dp_turn_permission){.ip = *peer, .due_at = now};
    p->ip.port = 0;
    return DP_OK;
}

static bool any_is_due(const dp_turn *turn, dp_time now)
{
    for (size_t i = 0; i < turn->permission_count; i++) {
        if (turn->permissions[i].due_at <= now)
            return true;
    }
    return false;
}

static void schedule_permissions(dp_turn *turn, dp_time now)
{
    dp_turn_request *r = NULL;
    size_t count = 0;
    if (!any_is_due(turn, now))
        return;
    for (size_t i = 0; i < turn->permission_count; i++) {
        dp_turn_permission *p = &turn->permissions[i];
        if (p->due_at > now + (p->alone ? 0 : TOGETHER))
            continue;
        if (r == NULL || p->alone || count == DP_TURN_MAX_BATCH) {
            if (!dp_turn_request_room(turn))
                return; /* until an answer makes room */
            r = dp_turn_request_start(turn, now, DP_STUN_METHOD_CREATE_PERMISSION);
            count = 0;
        }
        p->request = r;
        p->due_at = r != NULL ? DP_TIME_NEVER : now + DP_TURN_RETRY;
        count = p->alone ? DP_TURN_MAX_BATCH : count + 1; /* full */
    }
}

static void refuse(dp_turn *turn, dp_turn_permission *p, unsigned code)
{
    char text[DP_ADDRESS_TEXT_MAX];
    DP_TURN_LOG(turn, DP_LOG_INFO, "the TURN server does not relay to %s (%u)",
                dp_address_format_ip(&p->ip, text), code);
    p->refused = true;
    p->due_at = DP_TIME_NEVER;
    p->code = code;
    p->tell = true;
}

/* RFC 8656 §9.2: one address that the server forbids fails the whole request. Then each is asked for alone. */
static void permissions_answered(dp_turn *turn, dp_time now, const dp_turn_request *r,
                                 const dp_stun_message *answer)
{
    size_t count = 0;
    for (size_t i = 0; i < turn->permission_count; i++)
        count += turn->permissions[i].request == r;
    for (size_t i = 0; i < turn->permission_count; i++) {
        dp_turn_permission *p = &turn->permissions[i];
        if (p->request != r)
            continue;
        p->request = NULL;
        if (answer->class_ == DP_STUN_SUCCESS) {
            p->due_at = now + DP_TURN_PERMISSION_REFRESH;
            p->alone = false;
        } else if (count > 1) {
            p->due_at = now;
            p->alone = true;
        } else {
            refuse(turn, p, answer->error_code);
        }
    }
}

/* ---- channels ---- */

static const dp_turn_channel *find_channel(const dp_turn *turn, const dp_address *peer)
{
    for (size_t i = 0; i < turn->channel_count; i++) {
        if (dp_address_equal(&turn->channels[i].peer, peer))
            return &turn->channels[i];
    }
    return NULL;
}

static uint16_t number_of(const dp_turn *turn, const dp_turn_channel *c)
{
    return (uint16_t)(DP_TURN_CHANNEL_FIRST + (size_t)(c - turn->channels));
}

int dp_turn_bind(dp_turn *turn, dp_time now, const dp_address *peer)
{
    int err = dp_turn_permit(turn, now, peer);
    if (err != DP_OK || find_channel(turn, peer) != NULL)
        return err;
    if (turn->channel_count == DP_TURN_MAX_PEERS)
        return DP_ERR_LIMIT;
    dp_turn_channel *c = &turn->channels[turn->channel_count++];
    *c = (dp_turn_channel){.peer = *peer, .due_at = now, .expires_at = DP_TIME_NEVER};
    return DP_OK;
}

static void schedule_channels(dp_turn *turn, dp_time now)
{
    for (size_t i = 0; i < turn->channel_count && dp_turn_request_room(turn); i++) {
        dp_turn_channel *c = &turn->channels[i];
        if (c->due_at > now)
            continue;
        c->request = dp_turn_request_start(turn, now, DP_STUN_METHOD_CHANNEL_BIND);
        c->due_at = c->request != NULL ? DP_TIME_NEVER : now + DP_TURN_RETRY;
    }
}

static void channel_answered(dp_turn *turn, dp_time now, const dp_turn_request *r,
                             const dp_stun_message *answer)
{
    for (size_t i = 0; i < turn->channel_count; i++) {
        dp_turn_channel *c = &turn->channels[i];
        if (c->request != r)
            continue;
        c->request = NULL;
        c->bound = answer->class_ == DP_STUN_SUCCESS;
        c->refused = !c->bound; /* for good: Send indications do the same */
        c->due_at = c->bound ? now + DP_TURN_CHANNEL_REFRESH : DP_TIME_NEVER;
        c->expires_at = c->bound ? now + DP_TURN_CHANNEL_LIFETIME : DP_TIME_NEVER;
    }
}

/* ---- requests ---- */

void dp_turn_peers_schedule(dp_turn *turn, dp_time now)
{
    schedule_permissions(turn, now);
    schedule_channels(turn, now);
}

void dp_turn_write_peers(const dp_turn *turn, const dp_turn_request *request, dp_wr *wr)
{
    for (size_t i = 0; i < turn->permission_count; i++) {
        if (turn->permissions[i].request == request)
            dp_stun_write_xor_address(wr, DP_STUN_XOR_PEER_ADDRESS, &turn->permissions[i].ip);
    }
    for (size_t i = 0; i < turn->channel_count; i++) {
        const dp_turn_channel *c = &turn->channels[i];
        if (c->request != request)
            continue;
        dp_stun_write_channel_number(wr, number_of(turn, c));
        dp_stun_write_xor_address(wr, DP_STUN_XOR_PEER_ADDRESS, &c->peer);
    }
}

void dp_turn_peers_answered(dp_turn *turn, dp_time now, const dp_turn_request *request,
                            const dp_stun_message *answer)
{
    /* Two that are about the allocation, not about the peer. */
    if (answer->error_code == DP_STUN_CODE_ALLOCATION_MISMATCH ||
        answer->error_code == DP_STUN_CODE_WRONG_CREDENTIALS)
        dp_turn_fail(turn, answer->error_code, NULL);
    else if (request->method == DP_STUN_METHOD_CREATE_PERMISSION)
        permissions_answered(turn, now, request, answer);
    else
        channel_answered(turn, now, request, answer);
}

void dp_turn_peers_timeout(dp_turn *turn, dp_time now)
{
    for (size_t i = 0; i < turn->channel_count; i++) {
        dp_turn_channel *c = &turn->channels[i];
        if (now < c->expires_at)
            continue;
        c->bound = false; /* until the refresh that is due or in flight succeeds */
        c->expires_at = DP_TIME_NEVER;
    }
}

/* What is due waits for a free slot: then the requests' own timers come first. */
dp_time dp_turn_peers_next(const dp_turn *turn)
{
    bool room = dp_turn_request_room(turn);
    dp_time next = DP_TIME_NEVER;
    for (size_t i = 0; room && i < turn->permission_count; i++) {
        if (turn->permissions[i].due_at < next)
            next = turn->permissions[i].due_at;
    }
    for (size_t i = 0; i < turn->channel_count; i++) {
        const dp_turn_channel *c = &turn->channels[i];
        if (room && c->due_at < next)
            next = c->due_at;
        if (c->expires_at < next)
            next = c->expires_at;
    }
    return next;
}

/* ---- data ---- */

/* RFC 8656 §12.4; over UDP there may be padding or not (§12.5):
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |         Channel Number        |            Length             |
 *   +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *   |                       Application Data                     ....
 * A channel counts from the moment that it is asked for: data may overtake the answer. */
bool dp_turn_take_channel_data(dp_turn *turn, uint8_t *frame, size_t len, dp_turn_data *out)
{
    dp_rd rd = dp_rd_init(frame, len);
    size_t index = (size_t)dp_rd_u16(&rd) - DP_TURN_CHANNEL_FIRST;
    size_t length = dp_rd_u16(&rd);
    if (rd.error || length == 0 || length > dp_rd_left(&rd) || index >= turn->channel_count ||
        turn->channels[index].refused)
        return false;
    *out = (dp_turn_data){turn->channels[index].peer, frame + CHANNEL_HEADER_LEN, length};
    return true;
}

/* A Data indication (§11.4). One with ICMP has no DATA. */
bool dp_turn_take_indication(const dp_turn *turn, uint8_t *frame, const dp_stun_message *m, dp_turn_data *out)
{
    if (m->method != DP_STUN_METHOD_DATA || m->payload_len == 0 || m->peer.family == DP_FAMILY_NONE ||
        m->unknown_count > 0)
        return false;
    const dp_turn_permission *p = find_permission(turn, &m->peer);
    if (p == NULL || p->refused)
        return false;
    *out = (dp_turn_data){m->peer, frame + (m->payload - m->data), m->payload_len};
    return true;
}

/* STUN header, XOR-PEER-ADDRESS, and DATA's header. */
size_t dp_turn_headroom(const dp_turn *turn, const dp_address *peer)
{
    const dp_turn_channel *c = find_channel(turn, peer);
    if (c != NULL && c->bound)
        return CHANNEL_HEADER_LEN;
    return DP_STUN_HEADER_LEN + 4 + (peer->family == DP_FAMILY_IPV4 ? 8 : 20) + 4;
}

static void write_channel_data(const dp_turn *turn, const dp_turn_channel *c, dp_wr *wr, size_t len)
{
    dp_wr_u16(wr, number_of(turn, c));
    size_t mark = dp_wr_mark_u16(wr);
    dp_wr_patch_u16(wr, mark, len);
    (void)dp_wr_reserve(wr, len);
    if (turn->reliable)
        dp_wr_pad(wr, 4);
}

static bool write_indication(dp_turn *turn, const dp_address *peer, dp_wr *wr, size_t len)
{
    uint8_t id[DP_STUN_TRANSACTION_LEN];
    const dp_turn_permission *p = find_permission(turn, peer);
    if (p == NULL || p->refused || dp_random_bytes(&turn->random, id, sizeof id) != DP_OK)
        return false;
    dp_stun_write_header(wr, DP_STUN_INDICATION, DP_STUN_METHOD_SEND, id);
    dp_stun_write_xor_address(wr, DP_STUN_XOR_PEER_ADDRESS, peer);
    dp_stun_write_in_place(wr, DP_STUN_DATA, len);
    return true;
}

bool dp_turn_wrap(dp_turn *turn, const dp_address *peer, dp_datagram *out, size_t headroom)
{
    size_t len = out->length;
    dp_wr wr = dp_wr_init(out->data, out->capacity);
    out->length = 0;
    if (turn->state != DP_TURN_ALLOCATED || headroom != dp_turn_headroom(turn, peer))
        return false;
    const dp_turn_channel *c = find_channel(turn, peer);
    if (c != NULL && c->bound)
        write_channel_data(turn, c, &wr, len);
    else if (!write_indication(turn, peer, &wr, len))
        return false;
    turn->busy = true;
    return (c != NULL && c->bound ? dp_wr_finish(&wr, &out->length) : dp_stun_finish(&wr, &out->length)) ==
           DP_OK;
}
