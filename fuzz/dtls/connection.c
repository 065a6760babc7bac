/* A whole connection before anything is authenticated: what the fuzzer sends passes the prefilter or reaches
 * mbedTLS. Input: a role byte, then steps: u8 time in 50 ms, u16 length (0: only the timer), bytes. The
 * random source is fixed. */
#include <datapeer/dtls.h>

#include <stdlib.h>
#include <string.h>

#include "base/rd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

static uint64_t seed;

static int fill(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    for (size_t i = 0; i < len; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(seed >> 56);
    }
    return DP_OK;
}

static void drain(dp_dtls *dtls)
{
    uint8_t out[1500];
    size_t len = 0;
    dp_dtls_event event;
    while (dp_dtls_poll_event(dtls, &event)) {
        /* Nobody who does not hold the certificate's key gets through. */
        CHECK(event.type == DP_DTLS_EVENT_FAILED);
        CHECK(event.error != DP_OK && event.message != NULL);
    }
    for (int i = 0; dp_dtls_poll_transmit(dtls, out, sizeof out, &len); i++)
        CHECK(i < 1000 && len > 0 && len <= 1200);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static dp_certificate *certificate;
    dp_random random = {fill, NULL};
    seed = 1;
    if (certificate == NULL)
        CHECK(dp_certificate_generate(&certificate, &random, 1790000000) == DP_OK);
    dp_rd rd = dp_rd_init(data, size);
    dp_dtls_config config = {.size = sizeof config,
                             .random = random,
                             .role = dp_rd_u8(&rd) & 1 ? DP_DTLS_SERVER : DP_DTLS_CLIENT,
                             .certificate = certificate};
    dp_fingerprint fp = {.algorithm = DP_FINGERPRINT_SHA256, .length = 32};
    dp_dtls *dtls = NULL;
    CHECK(dp_dtls_new(&dtls, &config) == DP_OK);
    CHECK(dp_dtls_set_remote_fingerprints(dtls, &fp, 1) == DP_OK);
    dp_time now = 0;
    seed = 2;
    CHECK(dp_dtls_start(dtls, now) == DP_OK);
    drain(dtls);
    for (int steps = 0; steps < 64 && dp_rd_left(&rd) > 0; steps++) {
        now += DP_MS(50) * dp_rd_u8(&rd);
        if (dp_dtls_next_timeout(dtls) <= now)
            dp_dtls_handle_timeout(dtls, now);
        size_t len = dp_rd_u16(&rd);
        if (len > dp_rd_left(&rd))
            len = dp_rd_left(&rd);
        const uint8_t *bytes = dp_rd_bytes(&rd, len);
        uint8_t *exact = malloc(len + 1);
        CHECK(exact != NULL);
        if (bytes != NULL && len > 0) {
            memcpy(exact + 1, bytes, len);
            dp_dtls_input(dtls, now, exact + 1, len);
        }
        drain(dtls);
        free(exact);
    }
    CHECK(dp_dtls_get_state(dtls) != DP_DTLS_CONNECTED);
    dp_dtls_free(dtls);
    return 0;
}
