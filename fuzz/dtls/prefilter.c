/* Records of a handshake through the prefilter and the ClientHello reassembler.
 * Input: a role byte, then datagrams: u8 time step in 100 ms, u16 length, bytes. */
#include "dtls/prefilter.h"

#include <stdlib.h>
#include <string.h>

#include "dtls/reassembly.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            abort();                                                                                         \
    } while (0)

/* What the reassembler hands on has to pass the prefilter again, as one complete message. */
static void check_joined(const uint8_t *joined, size_t len)
{
    dp_rd rd = dp_rd_init(joined, len);
    dp_record record;
    dp_fragment fragment;
    CHECK(dp_record_read(&record, &rd));
    CHECK(dp_rd_left(&rd) == 0);
    CHECK(dp_prefilter(&record, DP_DTLS_SERVER) == DP_VERDICT_CLIENT_HELLO);
    rd = dp_rd_init(record.body, record.length);
    CHECK(dp_fragment_read(&fragment, &rd));
    CHECK(dp_rd_left(&rd) == 0);
    CHECK(fragment.offset == 0 && fragment.body_len == fragment.length);
    CHECK(fragment.length <= DP_CLIENT_HELLO_MAX);
}

static void feed(dp_reassembly *reassembly, dp_dtls_role role, dp_time now, const uint8_t *datagram,
                 size_t len)
{
    dp_rd rd = dp_rd_init(datagram, len);
    dp_record record;
    while (dp_rd_left(&rd) > 0 && dp_record_read(&record, &rd)) {
        if (dp_prefilter(&record, role) != DP_VERDICT_CLIENT_HELLO)
            continue;
        CHECK(role == DP_DTLS_SERVER && record.epoch == 0);
        dp_rd body = dp_rd_init(record.body, record.length);
        dp_fragment fragment;
        while (dp_rd_left(&body) > 0 && dp_fragment_read(&fragment, &body)) {
            const uint8_t *joined = NULL;
            size_t joined_len = 0;
            if (dp_reassembly_add(reassembly, &joined, &joined_len, now, &record, &fragment) ==
                DP_REASSEMBLY_COMPLETE)
                check_joined(joined, joined_len);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_rd rd = dp_rd_init(data, size);
    dp_dtls_role role = dp_rd_u8(&rd) & 1 ? DP_DTLS_SERVER : DP_DTLS_CLIENT;
    dp_reassembly reassembly = {NULL};
    dp_time now = 0;
    while (dp_rd_left(&rd) > 0) {
        now += DP_MS(100) * dp_rd_u8(&rd);
        size_t len = dp_rd_u16(&rd);
        if (len > dp_rd_left(&rd))
            len = dp_rd_left(&rd);
        const uint8_t *bytes = dp_rd_bytes(&rd, len);
        if (bytes == NULL)
            break;
        uint8_t *exact = malloc(len + 1); /* its own block, so that the sanitizer sees each byte too far */
        CHECK(exact != NULL);
        memcpy(exact + 1, bytes, len);
        feed(&reassembly, role, now, exact + 1, len);
        free(exact);
    }
    dp_reassembly_clear(&reassembly);
    return 0;
}
