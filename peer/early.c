/* Candidates that overtake their OFFER. One PeerServer keeps the order, but several that share the work need not; PeerJS keeps
 * such messages, too. */
#include "peer/connection.h"

#include <string.h>

enum { MAX_EARLY = 64, MAX_TEXT = 1024 };
#define KEPT_FOR DP_SECONDS(30)

typedef struct early {
    char *src; /* and behind its end the connection's id, and the candidate */
    const char *connection_id;
    const char *candidate;
    dp_time at;
} early;

void dp_early_init(dp_peer *peer) { dp_queue_init(&peer->early, sizeof(early), MAX_EARLY); }

static void drop_oldest(dp_peer *peer)
{
    early oldest;
    if (dp_queue_pop(&peer->early, &oldest))
        dp_free(oldest.src);
}

void dp_early_clear(dp_peer *peer)
{
    while (peer->early.count > 0)
        drop_oldest(peer);
    dp_queue_clear(&peer->early);
}

void dp_early_keep(dp_peer *peer, const char *src, const char *connection_id, const char *candidate)
{
    size_t src_size = strlen(src) + 1, id_size = strlen(connection_id) + 1,
           candidate_size = strlen(candidate) + 1;
    dp_time now = dp_loop_now(peer->loop);
    if (src_size + id_size + candidate_size > MAX_TEXT)
        return;
    for (const early *oldest; (oldest = dp_queue_peek(&peer->early)) != NULL;) {
        if (peer->early.count < MAX_EARLY && oldest->at + KEPT_FOR > now)
            break;
        drop_oldest(peer);
    }
    char *block = dp_alloc(src_size + id_size + candidate_size);
    early *item = block != NULL ? dp_queue_push(&peer->early) : NULL;
    if (item == NULL) {
        dp_free(block);
        return;
    }
    memcpy(block, src, src_size);
    memcpy(block + src_size, connection_id, id_size);
    memcpy(block + src_size + id_size, candidate, candidate_size);
    *item = (early){block, block + src_size, block + src_size + id_size, now};
}

void dp_early_give(dp_connection *conn)
{
    dp_peer *peer = conn->peer;
    dp_time now = dp_loop_now(peer->loop);
    early item;
    for (size_t n = peer->early.count; n > 0 && dp_queue_pop(&peer->early, &item); n--) {
        bool ours = strcmp(item.src, conn->remote_id) == 0 && strcmp(item.connection_id, conn->id) == 0;
        early *kept = ours ? NULL : dp_queue_push(&peer->early);
        if (kept != NULL) {
            *kept = item;
            continue;
        }
        if (ours && item.at + KEPT_FOR > now)
            dp_negotiate_candidate(peer, conn->remote_id, conn->id, item.candidate);
        dp_free(item.src);
    }
}
