/* A STUN server: Binding requests of anybody, RFC 8489 §6.3 and §12. */
#include "stun.h"

#include "base/config.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "base/rate.h"
#include <datapeer/stun_server.h>

#include <string.h>

enum {
    ADDRESS_RATE = 50,
    ADDRESS_BURST = 200,
    TOTAL_RATE = 5000,
    TOTAL_BURST = 10000,
    SOFTWARE_MAX = 127, /* §14.14: fewer than 128 characters */
};

struct dp_stun_server {
    const char *software;
    dp_rate total_rate;
    dp_bucket total;
    dp_rate_table addresses;
    dp_stun_server_stats stats;
};

static dp_rate rate_of(unsigned rate, unsigned burst, unsigned default_rate, unsigned default_burst)
{
    return (dp_rate){.per_second = rate != 0 ? rate : default_rate,
                     .burst = burst != 0 ? burst : default_burst};
}

int dp_stun_server_new(dp_stun_server **out, const dp_stun_server_config *config)
{
    dp_stun_server_config c = {0};
    uint64_t seed;
    if (out == NULL || !DP_CONFIG_READ(&c, config, dp_stun_server_config, address_rate))
        return DP_ERR_INVALID_ARGUMENT;
    if (c.random.fn == NULL || (c.software != NULL && strlen(c.software) > SOFTWARE_MAX))
        return DP_ERR_INVALID_ARGUMENT;
    if (dp_random_bytes(&c.random, (uint8_t *)&seed, sizeof(seed)) != DP_OK)
        return DP_ERR_CRYPTO;
    dp_stun_server *server = dp_calloc(1, sizeof(*server));
    if (server == NULL)
        return DP_ERR_NO_MEMORY;
    dp_rate address_rate = rate_of(c.address_rate, c.address_burst, ADDRESS_RATE, ADDRESS_BURST);
    dp_rate_table_init(&server->addresses, &address_rate, seed);
    server->total_rate = rate_of(c.total_rate, c.total_burst, TOTAL_RATE, TOTAL_BURST);
    server->software = c.software;
    *out = server;
    return DP_OK;
}

void dp_stun_server_free(dp_stun_server *server) { dp_free(server); }

/* §6.3: what is no request is not answered, nor what has an error before its attributes' values. An RFC 3489 client's
 * request, which has no magic cookie, is none here, though RFC 5389 §12.2 would answer it: without the cookie anything
 * whose third and fourth bytes are its length could be one, and no browser has sent any since 2008. */
static bool is_request(const dp_stun_message *message, int decoded, const dp_address *remote)
{
    return (decoded == DP_OK || decoded == DP_ERR_PROTOCOL) && message->class_ == DP_STUN_REQUEST &&
           message->method == DP_STUN_METHOD_BINDING && remote->port != 0;
}

/* The address's first: who is over it takes nothing from the others. */
static bool within_rates(dp_stun_server *server, const dp_address *remote, dp_time now)
{
    return dp_rate_table_take(&server->addresses, remote, now) &&
           dp_bucket_take(&server->total, &server->total_rate, now);
}

/* The error code to answer with, 0 for none. §6.3.1: attributes that the codec knows and that mean nothing here, those of
 * ICE, TURN and credentials, are ignored. */
static unsigned refusal(const dp_stun_message *request, int decoded)
{
    if (decoded == DP_ERR_PROTOCOL)
        return DP_STUN_CODE_BAD_REQUEST;
    return request->unknown_count > 0 ? DP_STUN_CODE_UNKNOWN_ATTRIBUTE : 0;
}

static void write_software(dp_wr *wr, const char *software, const dp_stun_message *request)
{
    if (software == NULL)
        return;
    size_t len = strlen(software);
    size_t fingerprint = request->has_fingerprint ? 8 : 0;
    if (wr->len + 4 + (len + 3) / 4 * 4 + fingerprint <= request->len)
        dp_stun_write_attribute(wr, DP_STUN_SOFTWARE, software, len);
}

/* The code says it all: a reason phrase would make the answer longer than a request that is forged needs to be. */
static int write_answer(const dp_stun_server *server, dp_datagram *out, const dp_stun_message *request,
                        unsigned code)
{
    dp_wr wr = dp_wr_init(out->data, out->capacity);
    dp_stun_write_header(&wr, code == 0 ? DP_STUN_SUCCESS : DP_STUN_ERROR, DP_STUN_METHOD_BINDING,
                         request->transaction);
    if (code == 0)
        dp_stun_write_xor_mapped_address(&wr, &out->remote);
    else
        dp_stun_write_error_code(&wr, code, "");
    if (code == DP_STUN_CODE_UNKNOWN_ATTRIBUTE)
        dp_stun_write_unknown_attributes(&wr, request->unknown, request->unknown_count);
    write_software(&wr, server->software, request);
    if (request->has_fingerprint)
        dp_stun_write_fingerprint(&wr);
    return dp_stun_finish(&wr, &out->length);
}

bool dp_stun_server_answer(dp_stun_server *server, dp_datagram *out, dp_time now, const uint8_t *data,
                           size_t len, const dp_address *local, const dp_address *remote)
{
    dp_stun_message request;
    int decoded = dp_stun_decode(&request, data, len);
    if (!is_request(&request, decoded, remote)) {
        server->stats.dropped++;
        return false;
    }
    if (!within_rates(server, remote, now)) {
        server->stats.limited++;
        return false;
    }
    unsigned code = refusal(&request, decoded);
    out->local = *local;
    out->remote = *remote;
    if (write_answer(server, out, &request, code) != DP_OK) {
        server->stats.dropped++;
        return false;
    }
    if (code == 0)
        server->stats.answered++;
    else
        server->stats.refused++;
    return true;
}

void dp_stun_server_get_stats(const dp_stun_server *server, dp_stun_server_stats *out)
{
    dp_stun_server_stats now = server->stats;
    now.size = out->size;
    memcpy(out, &now, out->size < sizeof(now) ? out->size : sizeof(now));
}
