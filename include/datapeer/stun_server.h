/* A STUN server (RFC 8489): tells whoever asks by UDP the address that its request came from, and nothing else: Binding
 * requests, no credentials, no TURN. Sans-IO, and without any state but the rates: no timeout, no event.
 *
 * What a forged source can make it do is bounded: an answer is at most 2.2 times as long as its request (20 bytes to 44,
 * with IPv6), an address gets address_rate of them a second, all together total_rate. */
#ifndef DATAPEER_STUN_SERVER_H
#define DATAPEER_STUN_SERVER_H

#include <datapeer/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DP_STUN_SERVER_PORT 3478 /* RFC 8489 §18.6 */

typedef struct dp_stun_server dp_stun_server;

/* 0 stands for the default in each number. */
typedef struct dp_stun_server_config {
    size_t size;            /* sizeof(dp_stun_server_config) */
    dp_random random;       /* required: which addresses share a place in the table of rates */
    unsigned address_rate;  /* answers a second to one address (IPv6: /64); 50; UINT32_MAX: no limit */
    unsigned address_burst; /* 200 */
    unsigned total_rate;    /* answers a second to all; 5000; UINT32_MAX: no limit */
    unsigned total_burst;   /* 10000 */
    const char *software;   /* SOFTWARE, at most 127 bytes of UTF-8, told where the request is as long as the
                               answer is with it; NULL: never. It must outlive the server */
} dp_stun_server_config;

/* 64 KB, and no more later. INVALID_ARGUMENT, NO_MEMORY, CRYPTO. */
DP_API int dp_stun_server_new(dp_stun_server **out, const dp_stun_server_config *config);
DP_API void dp_stun_server_free(dp_stun_server *server);

/* Takes one datagram that came from remote to local, an address of ours. True: out is the answer, which leaves from where
 * the request came to. False: there is none; out's data may have been written to. 1500 bytes of capacity are enough. */
DP_API bool dp_stun_server_answer(dp_stun_server *server, dp_datagram *out, dp_time now, const uint8_t *data,
                                  size_t len, const dp_address *local, const dp_address *remote);

typedef struct dp_stun_server_stats {
    size_t size;       /* sizeof(dp_stun_server_stats), set by the caller */
    uint64_t answered; /* requests that got an address */
    uint64_t refused;  /* requests that got an error: 400, or 420 */
    uint64_t limited;  /* requests over a rate: no answer */
    uint64_t dropped;  /* all else that came: no answer */
} dp_stun_server_stats;
DP_API void dp_stun_server_get_stats(const dp_stun_server *server, dp_stun_server_stats *out);

#ifdef __cplusplus
}
#endif
#endif
