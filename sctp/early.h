/* A stream reset that comes before its data. */
#ifndef SCTP_EARLY_H
#define SCTP_EARLY_H

#include <datapeer/base.h>

/* usrsctp does not carry out a reset that names a TSN which has not come yet (RFC 6525 §5.2.2), unless other data
 * follows later (docs/pitfalls.md): so it gets to see the request when that TSN is acknowledged. pion and Chromium
 * close a channel while its last data is on its way. There is one request at a time; the peer repeats it until it
 * has its answer. */
typedef struct dp_early_reset {
    uint8_t *packet; /* common header and RE-CONFIG; NULL: none is kept */
    size_t len;
    uint32_t tsn;
} dp_early_reset;

/* Looks for such a request in a sound packet. If there is one it is kept, and the rest of the packet is to be used in
 * place of the packet: *rest is to be freed, *rest_len 0 if nothing is left. NO_MEMORY: as if it had been lost. */
int dp_early_reset_take(dp_early_reset *early, uint8_t **rest, size_t *rest_len, const uint8_t *packet,
                        size_t len, uint32_t cumulative);
/* The time of the one that is kept has come: the packet, to be freed, or NULL. */
uint8_t *dp_early_reset_give(dp_early_reset *early, size_t *len, uint32_t cumulative);
void dp_early_reset_clear(dp_early_reset *early);

#endif
