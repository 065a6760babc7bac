/* Token buckets: how often somebody may do something. */
#ifndef BASE_RATE_H
#define BASE_RATE_H

#include <datapeer/base.h>

#define DP_RATE_UNLIMITED UINT32_MAX

typedef struct dp_rate {
    uint32_t per_second; /* DP_RATE_UNLIMITED: always allowed */
    uint32_t burst;
} dp_rate;

/* Zero-initialised it is full. */
typedef struct dp_bucket {
    dp_time full_at; /* when it is full again */
} dp_bucket;

/* Takes one token; false if there is none. */
bool dp_bucket_take(dp_bucket *bucket, const dp_rate *rate, dp_time now);
/* Puts one back that was taken. */
void dp_bucket_give(dp_bucket *bucket, const dp_rate *rate);

/* A bucket for each address (IPv6: for each /64, which is what one subscriber has). Memory is fixed: of four addresses
 * that share a place, the one whose bucket is the fullest is forgotten. */
enum { DP_RATE_SETS = 1024, DP_RATE_WAYS = 4 };
typedef struct dp_rate_table {
    dp_rate rate;
    uint64_t seed;
    struct {
        uint64_t tag; /* 0: free */
        dp_bucket bucket;
    } places[DP_RATE_SETS][DP_RATE_WAYS];
} dp_rate_table;

void dp_rate_table_init(dp_rate_table *table, const dp_rate *rate, uint64_t seed);
bool dp_rate_table_take(dp_rate_table *table, const dp_address *address, dp_time now);
void dp_rate_table_give(dp_rate_table *table, const dp_address *address);

#endif
