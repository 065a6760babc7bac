/* The bounded writer: fills a fixed buffer, big-endian. The first write that does not fit latches wr->error,
 * and nothing is written from then on; callers check once, with dp_wr_finish. */
#ifndef BASE_WR_H
#define BASE_WR_H

#include <datapeer/base.h>
#include <string.h>

typedef struct dp_wr {
    uint8_t *start;
    size_t len;
    size_t capacity;
    bool error;
} dp_wr;

static inline dp_wr dp_wr_init(uint8_t *out, size_t capacity)
{
    dp_wr wr = {out, 0, capacity, false};
    return wr;
}

/* Room for n bytes at the end, NULL (latched) if it does not fit or if there is no buffer at all. */
static inline uint8_t *dp_wr_reserve(dp_wr *wr, size_t n)
{
    if (wr->error || wr->start == NULL || wr->capacity - wr->len < n) {
        wr->error = true;
        return NULL;
    }
    uint8_t *p = wr->start + wr->len;
    wr->len += n;
    return p;
}

static inline void dp_wr_bytes(dp_wr *wr, const void *data, size_t n)
{
    if (n == 0)
        return;
    uint8_t *p = dp_wr_reserve(wr, n);
    if (p != NULL)
        memcpy(p, data, n);
}
static inline void dp_wr_zeros(dp_wr *wr, size_t n)
{
    if (n == 0)
        return;
    uint8_t *p = dp_wr_reserve(wr, n);
    if (p != NULL)
        memset(p, 0, n);
}
static inline void dp_wr_text(dp_wr *wr, const char *text) { dp_wr_bytes(wr, text, strlen(text)); }

static inline void dp_wr_u8(dp_wr *wr, uint8_t v)
{
    uint8_t *p = dp_wr_reserve(wr, 1);
    if (p != NULL)
        p[0] = v;
}
static inline void dp_wr_u16(dp_wr *wr, uint16_t v)
{
    uint8_t *p = dp_wr_reserve(wr, 2);
    if (p != NULL) {
        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
    }
}
static inline void dp_wr_u24(dp_wr *wr, uint32_t v)
{
    uint8_t *p = dp_wr_reserve(wr, 3);
    if (p != NULL) {
        p[0] = (uint8_t)(v >> 16);
        p[1] = (uint8_t)(v >> 8);
        p[2] = (uint8_t)v;
    }
}
static inline void dp_wr_u32(dp_wr *wr, uint32_t v)
{
    uint8_t *p = dp_wr_reserve(wr, 4);
    if (p != NULL) {
        p[0] = (uint8_t)(v >> 24);
        p[1] = (uint8_t)(v >> 16);
        p[2] = (uint8_t)(v >> 8);
        p[3] = (uint8_t)v;
    }
}
static inline void dp_wr_u48(dp_wr *wr, uint64_t v)
{
    uint8_t *p = dp_wr_reserve(wr, 6);
    if (p != NULL) {
        p[0] = (uint8_t)(v >> 40);
        p[1] = (uint8_t)(v >> 32);
        p[2] = (uint8_t)(v >> 24);
        p[3] = (uint8_t)(v >> 16);
        p[4] = (uint8_t)(v >> 8);
        p[5] = (uint8_t)v;
    }
}
static inline void dp_wr_u64(dp_wr *wr, uint64_t v)
{
    uint8_t *p = dp_wr_reserve(wr, 8);
    if (p != NULL) {
        p[0] = (uint8_t)(v >> 56);
        p[1] = (uint8_t)(v >> 48);
        p[2] = (uint8_t)(v >> 40);
        p[3] = (uint8_t)(v >> 32);
        p[4] = (uint8_t)(v >> 24);
        p[5] = (uint8_t)(v >> 16);
        p[6] = (uint8_t)(v >> 8);
        p[7] = (uint8_t)v;
    }
}

/* Zeros up to the next multiple of n, counted from the start of the buffer. */
static inline void dp_wr_pad(dp_wr *wr, size_t n)
{
    if (wr->len % n != 0)
        dp_wr_zeros(wr, n - wr->len % n);
}

/* Back-patching: reserve a length field with dp_wr_mark_u16, write the body, then dp_wr_patch_u16. */
static inline size_t dp_wr_mark_u16(dp_wr *wr)
{
    size_t mark = wr->len;
    dp_wr_u16(wr, 0);
    return mark;
}
/* Writes v at mark. A v over 65535 latches the error: no silent truncation. */
static inline void dp_wr_patch_u16(dp_wr *wr, size_t mark, size_t v)
{
    if (v > UINT16_MAX)
        wr->error = true;
    if (wr->error)
        return;
    wr->start[mark] = (uint8_t)(v >> 8);
    wr->start[mark + 1] = (uint8_t)v;
}

/* DP_OK and the length, or DP_ERR_NO_SPACE. */
static inline int dp_wr_finish(const dp_wr *wr, size_t *len)
{
    if (wr->error)
        return DP_ERR_NO_SPACE;
    *len = wr->len;
    return DP_OK;
}

#endif
