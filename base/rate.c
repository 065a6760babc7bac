#include "base/rate.h"

#include "base/table.h"
#include <string.h>

/* The time when it is full again says how much is missing: a token is worth 1/per_second. */
bool dp_bucket_take(dp_bucket *bucket, const dp_rate *rate, dp_time now)
{
    if (rate->per_second == DP_RATE_UNLIMITED)
        return true;
    if (rate->per_second == 0)
        return false;
    dp_duration token = DP_SECONDS(1) / rate->per_second;
    dp_duration depth = DP_SECONDS((dp_duration)rate->burst) / rate->per_second;
    dp_duration missing = bucket->full_at > now ? bucket->full_at - now : 0;
    if (missing + token > depth)
        return false;
    bucket->full_at = now + missing + token;
    return true;
}

void dp_bucket_give(dp_bucket *bucket, const dp_rate *rate)
{
    if (rate->per_second == DP_RATE_UNLIMITED || rate->per_second == 0)
        return;
    dp_duration token = DP_SECONDS(1) / rate->per_second;
    bucket->full_at = bucket->full_at > token ? bucket->full_at - token : 0;
}

void dp_rate_table_init(dp_rate_table *table, const dp_rate *rate, uint64_t seed)
{
    memset(table, 0, sizeof(*table));
    table->rate = *rate;
    table->seed = seed ^ dp_hash_secret();
}

static uint64_t tag_of(const dp_rate_table *table, const dp_address *address)
{
    return dp_hash(table->seed + address->family, address->ip, address->family == DP_FAMILY_IPV6 ? 8 : 4) | 1;
}

bool dp_rate_table_take(dp_rate_table *table, const dp_address *address, dp_time now)
{
    if (table->rate.per_second == DP_RATE_UNLIMITED)
        return true;
    uint64_t tag = tag_of(table, address);
    size_t set = (size_t)(tag >> 32) % DP_RATE_SETS;
    size_t fullest = 0;
    for (size_t way = 0; way < DP_RATE_WAYS; way++) {
        if (table->places[set][way].tag == tag)
            return dp_bucket_take(&table->places[set][way].bucket, &table->rate, now);
        if (table->places[set][way].bucket.full_at < table->places[set][fullest].bucket.full_at)
            fullest = way;
    }
    table->places[set][fullest].tag = tag;
    table->places[set][fullest].bucket = (dp_bucket){0};
    return dp_bucket_take(&table->places[set][fullest].bucket, &table->rate, now);
}

void dp_rate_table_give(dp_rate_table *table, const dp_address *address)
{
    uint64_t tag = tag_of(table, address);
    size_t set = (size_t)(tag >> 32) % DP_RATE_SETS;
    for (size_t way = 0; way < DP_RATE_WAYS; way++)
        if (table->places[set][way].tag == tag)
            dp_bucket_give(&table->places[set][way].bucket, &table->rate);
}
