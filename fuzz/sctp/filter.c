/* The packet filter, and what it lets through given to a live association of usrsctp: the checksum is mended,
 * so that the bytes get as far as they would from a peer. */
#include "sctp/filter.h"

#include <datapeer/sctp.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fuzz_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 7, len);
    return DP_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1500)
        return 0;
    (void)dp_sctp_filter(data, size, 5000, 5000, true);
    int error = dp_sctp_filter(data, size, 5000, 5000, false);
    if (size < DP_SCTP_COMMON_HEADER) {
        if (error == DP_OK)
            abort();
        return 0;
    }
    uint8_t packet[1500];
    memcpy(packet, data, size);
    dp_sctp_checksum_write(packet, size);
    if (!dp_sctp_checksum_ok(packet, size))
        abort();
    if (error != DP_OK)
        return 0;
    dp_sctp *sctp;
    dp_sctp_config config = {.size = sizeof config, .random = {fuzz_random, NULL}};
    if (dp_sctp_new(&sctp, &config) != DP_OK)
        return 0;
    if (dp_sctp_start(sctp, 1000000, true, 5000, 0) == DP_OK) {
        const uint8_t *out;
        size_t len;
        dp_sctp_event event;
        dp_sctp_input(sctp, 1000000, packet, size);
        while (dp_sctp_poll_event(sctp, &event)) {
        }
        while (dp_sctp_poll_transmit(sctp, &out, &len)) {
        }
        dp_sctp_handle_timeout(sctp, 1010000);
    }
    dp_sctp_free(sctp);
    return 0;
}
