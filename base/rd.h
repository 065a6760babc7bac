/* The bounded reader: the only way that wire bytes are read. Every function checks the length first; after
 * the first failure the reader is latched: it returns zeros and rd->error stays, so a parser may check once
 * at its end. */
#ifndef BASE_RD_H
#define BASE_RD_H

#include <datapeer/base.h>

typedef struct dp_rd {
    const uint8_t *at;
    const uint8_t *end;
    bool error;
} dp_rd;

static inline dp_rd dp_rd_init(const uint8_t *data, size_t len)
{
    /* NULL is an empty input. A pointer to something takes its place, for arithmetic on NULL is undefined
     * even with 0. */
    const uint8_t *at = data == NULL ? (const uint8_t *)"" : data;
    dp_rd rd = {at, data == NULL ? at : at + len, false};
    return rd;
}

static inline size_t dp_rd_left(const dp_rd *rd) { return rd->error ? 0 : (size_t)(rd->end - rd->at); }

/* Borrows the next n bytes; NULL (latched) if there are fewer. For n = 0 a valid pointer. */
static inline const uint8_t *dp_rd_bytes(dp_rd *rd, size_t n)
{
    if (rd->error || (size_t)(rd->end - rd->at) < n) {
        rd->error = true;
        return NULL;
    }
    const uint8_t *p = rd->at;
    rd->at += n;
    return p;
}

static inline void dp_rd_skip(dp_rd *rd, size_t n) { (void)dp_rd_bytes(rd, n); }

/* Big-endian unsigned integers. */
static inline uint8_t dp_rd_u8(dp_rd *rd)
{
    const uint8_t *p = dp_rd_bytes(rd, 1);
    return p == NULL ? 0 : p[0];
}
static inline uint16_t dp_rd_u16(dp_rd *rd)
{
    const uint8_t *p = dp_rd_bytes(rd, 2);
    return p == NULL ? 0 : (uint16_t)((p[0] << 8) | p[1]);
}
static inline uint32_t dp_rd_u24(dp_rd *rd)
{
    const uint8_t *p = dp_rd_bytes(rd, 3);
    return p == NULL ? 0 : ((uint32_t)p[0] << 16) | ((uint32_t)p[1] << 8) | p[2];
}
static inline uint32_t dp_rd_u32(dp_rd *rd)
{
    uint32_t high = dp_rd_u16(rd);
    return (high << 16) | dp_rd_u16(rd);
}
static inline uint64_t dp_rd_u48(dp_rd *rd)
{
    uint64_t high = dp_rd_u16(rd);
    return (high << 32) | dp_rd_u32(rd);
}
static inline uint64_t dp_rd_u64(dp_rd *rd)
{
    uint64_t high = dp_rd_u32(rd);
    return (high << 32) | dp_rd_u32(rd);
}

/* A reader of the next n bytes; the outer one moves past them. */
static inline dp_rd dp_rd_sub(dp_rd *rd, size_t n)
{
    const uint8_t *p = dp_rd_bytes(rd, n);
    dp_rd sub = dp_rd_init(p, p == NULL ? 0 : n);
    sub.error = p == NULL;
    return sub;
}

#endif
