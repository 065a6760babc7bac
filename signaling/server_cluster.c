/* One server of several: what it asks of the cluster, and what it makes of the answers, which may be late, lost or lies. */
#include "server.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "url.h"
#include <string.h>

enum {
    LETTER_MAX = 1 << 16, /* bytes of a payload: no client can send more */
    LETTER_HOPS_MAX = 3,  /* an addressee who moves is followed so often */
    PROOF_LEN = 2 * DP_SHA256_LEN,
};

int dp_cluster_init(dp_signal_server *s, const dp_signal_cluster *cluster)
{
    s->config.cluster = NULL; /* the caller's */
    if (cluster == NULL)
        return DP_OK;
    if (cluster->claim == NULL || cluster->release == NULL || cluster->forward == NULL ||
        cluster->withdraw == NULL || cluster->list == NULL)
        return DP_ERR_INVALID_ARGUMENT;
    s->cluster = *cluster;
    s->config.cluster = &s->cluster;
    return DP_OK;
}

/* ---- letters --------------------------------------------------------------------------------------------
 *
 *   hops type src "\n" dst "\n" payload
 *
 * hops is a digit, type one of the letters below; src and dst are ids, free of control characters; payload is JSON text,
 * or nothing. */

static const char types[] = {[RELAY_OFFER] = 'O',
                             [RELAY_ANSWER] = 'A',
                             [RELAY_CANDIDATE] = 'C',
                             [RELAY_LEAVE] = 'L',
                             [RELAY_EXPIRE] = 'E'};

typedef struct letter {
    unsigned hops;
    dp_relay_type type;
    char src[DP_PEER_ID_MAX + 1];
    char dst[DP_PEER_ID_MAX + 1];
    dp_slice payload;
} letter;

static bool take_id(char out[DP_PEER_ID_MAX + 1], dp_slice *rest)
{
    if (rest->len == 0 || memchr(rest->at, '\n', rest->len) == NULL)
        return false;
    dp_slice id = dp_slice_cut(rest, '\n');
    return dp_peer_id_harmless(id) && dp_slice_copy(out, DP_PEER_ID_MAX + 1, id) == DP_OK;
}

static bool letter_read(letter *out, const char *text, size_t len)
{
    out->type = RELAY_OTHER;
    if (len < 2 || text[0] < '0' || text[0] > '0' + LETTER_HOPS_MAX ||
        !dp_utf8_valid((const uint8_t *)text, len))
        return false;
    out->hops = (unsigned)(text[0] - '0');
    for (size_t i = RELAY_OFFER; i < sizeof(types); i++)
        if (types[i] == text[1])
            out->type = (dp_relay_type)i;
    dp_slice rest = {text + 2, len - 2};
    if (out->type == RELAY_OTHER || !take_id(out->src, &rest) || !take_id(out->dst, &rest))
        return false;
    out->payload = (dp_slice){rest.len > 0 ? rest.at : NULL, rest.len};
    return rest.len == 0 || (rest.len <= LETTER_MAX && dp_relay_payload_valid(rest.at, rest.len));
}

bool dp_cluster_forward(dp_signal_server *s, unsigned hops, dp_relay_type type, const char *src,
                        const char *dst, dp_slice payload)
{
    size_t room = 4 + strlen(src) + strlen(dst) + payload.len;
    if (!s->cluster_up || hops > LETTER_HOPS_MAX)
        return false;
    char *text = dp_alloc(room);
    if (text == NULL)
        return false;
    dp_wr wr = dp_wr_init((uint8_t *)text, room);
    dp_wr_u8(&wr, (uint8_t)('0' + hops));
    dp_wr_u8(&wr, (uint8_t)types[type]);
    dp_wr_text(&wr, src);
    dp_wr_u8(&wr, '\n');
    dp_wr_text(&wr, dst);
    dp_wr_u8(&wr, '\n');
    dp_wr_bytes(&wr, payload.at, payload.len);
    bool lasting = type != RELAY_LEAVE && type != RELAY_EXPIRE;
    dp_signal_absent otherwise = !lasting                            ? DP_SIGNAL_DROP
                                 : dp_realm_has_room(s, dst, wr.len) ? DP_SIGNAL_KEEP
                                                                     : DP_SIGNAL_TELL;
    bool taken = s->cluster.forward(s->cluster.ctx, src, dst, text, wr.len, otherwise);
    dp_free(text);
    return taken;
}

void dp_signal_server_letter(dp_signal_server *s, dp_time now, const char *text, size_t len)
{
    letter l;
    dp_server_begin(s, now);
    if (!letter_read(&l, text, len)) {
        s->stats.garbage++;
        return;
    }
    s->stats.letters++;
    dp_signal_conn *to = dp_table_get(&s->clients, l.dst, strlen(l.dst));
    if (to != NULL && dp_realm_send(s, to, l.type, l.src, l.payload))
        s->stats.relayed++;
    else if (to != NULL || !dp_cluster_forward(s, l.hops + 1, l.type, l.src, l.dst, l.payload))
        s->stats.dropped++;
}

/* The letter waits outside, but it counts here, and it is here that its time runs out. */
static bool note_kept(dp_signal_server *s, const char *src, const char *dst, size_t len)
{
    char *copy = dp_strdup(src);
    absent_message *message = copy != NULL ? dp_realm_keep(s, dst, len) : NULL;
    if (message == NULL) {
        dp_free(copy);
        return false;
    }
    message->src = copy;
    return true;
}

void dp_signal_server_forwarded(dp_signal_server *s, dp_time now, const char *src, const char *dst,
                                size_t len, dp_signal_fate fate)
{
    dp_server_begin(s, now);
    switch (fate) {
    case DP_SIGNAL_SENT:
        s->stats.forwarded++;
        return;
    case DP_SIGNAL_KEPT:
        s->stats.forwarded++;
        s->stats.queued++;
        if (note_kept(s, src, dst, len))
            return;
        break;
    case DP_SIGNAL_RETURNED:
        break;
    case DP_SIGNAL_LOST:
        s->stats.dropped++;
        return;
    }
    s->stats.dropped++;
    dp_realm_tell_expired(s, src, dst);
}

bool dp_cluster_withdraw(dp_signal_server *s, const char *dst)
{
    return s->cluster_up && s->cluster.withdraw(s->cluster.ctx, dst);
}

void dp_signal_server_returned(dp_signal_server *s, dp_time now, const char *src, const char *dst)
{
    dp_server_begin(s, now);
    s->stats.expired++;
    dp_realm_tell_expired(s, src, dst);
}

/* ---- claims --------------------------------------------------------------------------------------------- */

static uint64_t next_stamp(dp_signal_server *s)
{
    uint64_t stamp = s->now + s->cluster.time_offset;
    s->last_stamp = stamp > s->last_stamp ? stamp : s->last_stamp + 1;
    return s->last_stamp;
}

/* What stands for a token where others can read it; the same token of another id looks different. */
static bool prove(char out[PROOF_LEN + 1], const char *id, const char *token)
{
    uint8_t hash[DP_SHA256_LEN];
    char text[2 * (TOKEN_MAX + 1)];
    dp_wr wr = dp_wr_init((uint8_t *)text, sizeof(text));
    dp_wr_bytes(&wr, id, strlen(id) + 1);
    dp_wr_text(&wr, token);
    bool done = !wr.error && dp_sha256(hash, text, wr.len) == DP_OK;
    dp_wipe(text, sizeof(text));
    for (size_t i = 0; done && i < DP_SHA256_LEN; i++) {
        out[2 * i] = "0123456789abcdef"[hash[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
    }
    out[PROOF_LEN] = '\0';
    return done;
}

static bool claim(dp_signal_server *s, const dp_signal_conn *conn, bool renew)
{
    char proof[PROOF_LEN + 1];
    return s->cluster_up && prove(proof, conn->id, conn->token) &&
           s->cluster.claim(s->cluster.ctx, conn->id, proof, conn->stamp, renew);
}

bool dp_cluster_claim(dp_signal_server *s, dp_signal_conn *conn)
{
    if (s->config.cluster == NULL)
        return false;
    conn->stamp = next_stamp(s);
    return claim(s, conn, false);
}

void dp_cluster_release(dp_signal_server *s, dp_signal_conn *conn)
{
    if (conn->stamp != 0 && s->cluster_up)
        s->cluster.release(s->cluster.ctx, conn->id, conn->stamp);
    conn->stamp = 0;
}

/* Whoever waits for the answer to what was asked with this stamp. */
static dp_signal_conn *asking(const dp_signal_server *s, uint64_t stamp, bool websocket)
{
    for (link *item = s->conns[CONN_ASKING].first; item != NULL; item = item->next) {
        dp_signal_conn *conn = (dp_signal_conn *)item;
        if (conn->stamp == stamp && conn->websocket == websocket)
            return conn;
    }
    return NULL;
}

static void go_on(dp_signal_server *s, dp_signal_conn *conn)
{
    dp_early *early = conn->early;
    conn->early = NULL;
    if (early == NULL)
        return;
    s->buffered -= early->capacity;
    dp_conn_take(s, conn, early->bytes, early->len);
    dp_free(early->bytes);
    dp_free(early);
}

static void obey(dp_signal_server *s, dp_signal_conn *client, dp_signal_verdict verdict)
{
    if (verdict == DP_SIGNAL_TAKEN)
        dp_realm_refuse_taken(s, client);
    else if (verdict == DP_SIGNAL_MOVED)
        dp_realm_dismiss(s, client, 1000, "it comes by another node");
}

void dp_signal_server_claimed(dp_signal_server *s, dp_time now, const char *id, uint64_t stamp,
                              dp_signal_verdict verdict)
{
    dp_server_begin(s, now);
    dp_signal_conn *conn = asking(s, stamp, true);
    if (conn == NULL) {
        conn = dp_table_get(&s->clients, id, strlen(id));
        if (conn != NULL && conn->stamp == stamp)
            obey(s, conn, verdict);
        return;
    }
    if (verdict == DP_SIGNAL_GRANTED)
        dp_realm_admit(s, conn);
    else
        obey(s, conn, verdict);
    go_on(s, conn);
}

/* ---- waiting for an answer ------------------------------------------------------------------------------ */

void dp_cluster_wait(dp_signal_server *s, dp_signal_conn *conn) { dp_conn_enter(s, conn, CONN_ASKING); }

/* However many ask, the cluster is asked once at a time: its answer is long. */
bool dp_cluster_list(dp_signal_server *s, dp_signal_conn *conn)
{
    uint64_t ticket = s->list_ticket != 0 ? s->list_ticket : next_stamp(s);
    if (!s->cluster_up || (s->list_ticket == 0 && !s->cluster.list(s->cluster.ctx, ticket)))
        return false;
    s->list_ticket = conn->stamp = ticket;
    dp_cluster_wait(s, conn);
    return true;
}

void dp_signal_server_listed(dp_signal_server *s, dp_time now, uint64_t ticket, const char *const *ids,
                             size_t count)
{
    dp_server_begin(s, now);
    dp_signal_conn *conn;
    size_t left = 0;
    if (ticket != s->list_ticket)
        return;
    s->list_ticket = 0;
    const char **good = dp_calloc(count + 1, sizeof(*good));
    if (good == NULL)
        return; /* who waits does not wait long */
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(ids[i]);
        if (dp_peer_id_harmless((dp_slice){ids[i], len}) && dp_utf8_valid((const uint8_t *)ids[i], len))
            good[left++] = ids[i];
        else
            s->stats.garbage++;
    }
    while ((conn = asking(s, ticket, false)) != NULL) {
        conn->stamp = 0;
        dp_http_answer_peers(s, conn, good, left);
        go_on(s, conn);
    }
    dp_free(good);
}

void dp_cluster_hold(dp_signal_server *s, dp_signal_conn *conn, const uint8_t *data, size_t len)
{
    if (conn->early == NULL)
        conn->early = dp_calloc(1, sizeof(*conn->early));
    dp_early *early = conn->early;
    size_t before = early != NULL ? early->capacity : 0;
    void *bytes = early != NULL ? early->bytes : NULL;
    if (early == NULL || dp_grow(&bytes, &early->capacity, early->len + len, EARLY_MAX, 1) != DP_OK) {
        dp_conn_cut(s, conn, "it sends too much before it has joined");
        return;
    }
    early->bytes = bytes;
    s->buffered += early->capacity - before;
    memcpy(early->bytes + early->len, data, len);
    early->len += len;
    (void)dp_conn_make_room(s, conn, early->capacity);
}

void dp_cluster_give_up(dp_signal_server *s, dp_signal_conn *conn)
{
    if (conn->websocket) {
        dp_realm_admit(s, conn);
    } else {
        conn->stamp = 0;
        dp_http_answer_own_peers(s, conn);
    }
    go_on(s, conn);
}

void dp_cluster_forget(dp_signal_server *s, dp_signal_conn *conn)
{
    if (conn->websocket)
        dp_cluster_release(s, conn);
    if (conn->early == NULL)
        return;
    s->buffered -= conn->early->capacity;
    dp_free(conn->early->bytes);
    dp_free(conn->early);
    conn->early = NULL;
}

/* ---- the cluster comes and goes --------------------------------------------------------------------------- */

/* What has been queued here while the cluster was away; what waits outside stays noted. */
static void forward_queue(dp_signal_server *s, absent *queue)
{
    absent_message message;
    dp_relay relay;
    for (size_t n = queue->messages.count; n > 0 && dp_queue_pop(&queue->messages, &message); n--) {
        const char *text = message.src + strlen(message.src) + 1;
        if (message.len > 0 && dp_relay_parse(&relay, text, message.len) == DP_OK &&
            dp_cluster_forward(s, 0, relay.type, message.src, queue->dst, relay.payload)) {
            queue->bytes -= message.size;
            s->buffered -= message.size;
            dp_free(message.src);
            continue;
        }
        absent_message *back = dp_queue_push(&queue->messages); /* there is room: it was taken from there */
        if (back != NULL)
            *back = message;
    }
    if (queue->messages.count == 0)
        dp_realm_drop_absent(s, queue);
}

void dp_signal_server_cluster_up(dp_signal_server *s, dp_time now)
{
    const dp_signal_conn *client;
    size_t at = 0;
    dp_server_begin(s, now);
    if (s->config.cluster == NULL)
        return;
    s->cluster_up = true;
    while ((client = dp_table_next(&s->clients, &at)) != NULL)
        (void)claim(s, client, true);
    for (link *item = s->waiting.first, *next; item != NULL; item = next) {
        next = item->next;
        forward_queue(s, (absent *)item);
    }
}

void dp_signal_server_cluster_down(dp_signal_server *s, dp_time now)
{
    dp_server_begin(s, now);
    s->cluster_up = false;
    s->list_ticket = 0;
    while (s->conns[CONN_ASKING].first != NULL)
        dp_cluster_give_up(s, (dp_signal_conn *)s->conns[CONN_ASKING].first);
}
