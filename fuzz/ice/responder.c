/* The STUN server under datagrams, sources and clock steps of the input's choice: whatever is answered is a Binding request,
 * the answer is whole, goes where the request came from, and is at most 2.2 times as long; the rates hold.
 *
 * The input is a row of [flags][clock step][length][datagram]: flags choose the source and whether the header is made right. */
#include "base/rd.h"
#include "ice/stun.h"
#include <datapeer/stun_server.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RATE = 20, BURST = 4, SOURCES = 4 };

static void require(bool condition)
{
    if (!condition)
        abort();
}

static int fixed_random(void *ctx, uint8_t *out, size_t len)
{
    (void)ctx;
    memset(out, 1, len);
    return DP_OK;
}

/* Two of each family, in networks of their own. */
static dp_address source(unsigned n)
{
    dp_address a = {.family = n % 2 == 0 ? DP_FAMILY_IPV4 : DP_FAMILY_IPV6, .port = 40000};
    a.ip[0] = 0x20;
    a.ip[1] = (uint8_t)n;
    return a;
}

/* Flags 0x80: what no stranger gets right by chance is made right, so that the input is about the rest. */
static void complete(uint8_t *datagram, size_t len)
{
    if (len < DP_STUN_HEADER_LEN)
        return;
    datagram[0] &= 0x3F;
    datagram[2] = (uint8_t)((len - DP_STUN_HEADER_LEN) >> 8);
    datagram[3] = (uint8_t)(len - DP_STUN_HEADER_LEN);
    memcpy(datagram + 4, "\x21\x12\xa4\x42", 4);
}

static void check_answer(const dp_datagram *answer, const uint8_t *request, size_t len,
                         const dp_address *from)
{
    dp_stun_message m, asked;
    int decoded = dp_stun_decode(&asked, request, len);
    require(decoded == DP_OK || decoded == DP_ERR_PROTOCOL);
    require(request[0] == 0 && request[1] == 1);
    require(dp_stun_decode(&m, answer->data, answer->length) == DP_OK);
    require(m.method == DP_STUN_METHOD_BINDING && memcmp(m.transaction, request + 8, 12) == 0);
    require(dp_address_equal(&answer->remote, from) && 10 * answer->length <= 22 * len);
    require(m.reported_count == (m.error_code == 420 ? asked.unknown_count : 0));
    if (m.class_ == DP_STUN_SUCCESS)
        require(decoded == DP_OK && asked.unknown_count == 0 && dp_address_equal(&m.mapped, from));
    else
        require(m.class_ == DP_STUN_ERROR && m.error_code == (decoded == DP_OK ? 420u : 400u));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const dp_address local = {.family = DP_FAMILY_IPV4, .port = 3478, .ip = {192, 0, 2, 9}};
    const dp_stun_server_config config = {.size = sizeof(config),
                                          .random = {fixed_random, NULL},
                                          .address_rate = RATE,
                                          .address_burst = BURST,
                                          .software = "datapeer"};
    dp_stun_server *server;
    dp_time now = DP_SECONDS(1);
    size_t answers[SOURCES] = {0};
    uint64_t datagrams = 0;
    uint8_t out[DP_STUN_MESSAGE_MAX];
    require(dp_stun_server_new(&server, &config) == DP_OK);
    dp_rd rd = dp_rd_init(data, size);
    while (dp_rd_left(&rd) > 0) {
        unsigned flags = dp_rd_u8(&rd);
        now += DP_MS(dp_rd_u8(&rd));
        size_t len = dp_rd_u16(&rd);
        len = len < dp_rd_left(&rd) ? len : dp_rd_left(&rd);
        uint8_t *datagram = malloc(len > 0 ? len : 1);
        require(datagram != NULL);
        if (len > 0)
            memcpy(datagram, dp_rd_bytes(&rd, len), len);
        if (flags & 0x80)
            complete(datagram, len);
        dp_address from = source(flags % SOURCES);
        dp_datagram answer = {.data = out, .capacity = sizeof(out)};
        datagrams++;
        if (dp_stun_server_answer(server, &answer, now, datagram, len, &local, &from)) {
            check_answer(&answer, datagram, len, &from);
            answers[flags % SOURCES]++;
        }
        free(datagram);
    }
    dp_stun_server_stats n = {.size = sizeof(n)};
    dp_stun_server_get_stats(server, &n);
    require(n.answered + n.refused + n.limited + n.dropped == datagrams);
    for (size_t i = 0; i < SOURCES; i++)
        require(answers[i] <= BURST + (now - DP_SECONDS(1)) * RATE / DP_SECONDS(1));
    dp_stun_server_free(server);
    return 0;
}
