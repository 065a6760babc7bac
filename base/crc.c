#include "base/crc.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

/* Reflected polynomials. */
#define CRC32_POLYNOMIAL  0xEDB88320u
#define CRC32C_POLYNOMIAL 0x82F63B78u

/* A quarter byte at a time: 16 entries are quick to build, small, and fast enough for STUN and for processors
 * without a CRC instruction. They are constants so that nothing has to be initialised. */
#define STEP(c, p)   (((c) >> 1) ^ (((c)&1u) ? (p) : 0u))
#define NIBBLE(i, p) STEP(STEP(STEP(STEP((uint32_t)(i), p), p), p), p)
#define TABLE(p)                                                                                             \
    {                                                                                                        \
        NIBBLE(0, p), NIBBLE(1, p), NIBBLE(2, p), NIBBLE(3, p), NIBBLE(4, p), NIBBLE(5, p), NIBBLE(6, p),    \
            NIBBLE(7, p), NIBBLE(8, p), NIBBLE(9, p), NIBBLE(10, p), NIBBLE(11, p), NIBBLE(12, p),           \
            NIBBLE(13, p), NIBBLE(14, p), NIBBLE(15, p)                                                      \
    }

static const uint32_t crc32_table[16] = TABLE(CRC32_POLYNOMIAL);
static const uint32_t crc32c_table[16] = TABLE(CRC32C_POLYNOMIAL);

static uint32_t update(const uint32_t table[16], uint32_t crc, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return crc;
}

uint32_t dp_crc32(const uint8_t *data, size_t len) { return ~update(crc32_table, ~0u, data, len); }

uint32_t dp_crc32c_table(uint32_t crc, const uint8_t *data, size_t len)
{
    return ~update(crc32c_table, ~crc, data, len);
}

#if defined(__x86_64__)
/* The instruction takes a result 3 cycles after its operands, and one may begin in each: so three blocks that follow one
 * another are taken at once, each with a CRC of its own, which are then shifted over the blocks behind them and added. */
#define BLOCK (size_t)128

static uint64_t load(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, 8);
    return word;
}

/* The CRC of what state is the CRC of and n bytes of zeros: state times x^(8n) modulo the polynomial. power is x^(8n - 33)
 * reflected: reflected factors have a product one bit too far, and the instruction multiplies by x^32. */
__attribute__((target("sse4.2,pclmul"))) static uint64_t shift(uint64_t state, int64_t power)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)state), _mm_cvtsi64_si128(power), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}
#define OVER_ONE_BLOCK  0x0D3B6092 /* x^991 */
#define OVER_TWO_BLOCKS 0xB9E02B86 /* x^2015 */

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *data,
                                                                         size_t len)
{
    uint64_t state = ~crc;
    for (; len >= 3 * BLOCK; data += 3 * BLOCK, len -= 3 * BLOCK) {
        uint64_t second = 0, third = 0;
        for (size_t i = 0; i < BLOCK; i += 8) {
            state = _mm_crc32_u64(state, load(data + i));
            second = _mm_crc32_u64(second, load(data + BLOCK + i));
            third = _mm_crc32_u64(third, load(data + 2 * BLOCK + i));
        }
        state = shift(state, OVER_TWO_BLOCKS) ^ shift(second, OVER_ONE_BLOCK) ^ third;
    }
    for (; len >= 8; data += 8, len -= 8)
        state = _mm_crc32_u64(state, load(data));
    uint32_t tail = (uint32_t)state;
    for (; len > 0; data++, len--)
        tail = _mm_crc32_u8(tail, *data);
    return ~tail;
}
static int have_hardware(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}
#elif defined(__aarch64__)
__attribute__((target("+crc"))) static uint32_t crc32c_hardware(uint32_t crc, const uint8_t *data, size_t len)
{
    uint32_t state = ~crc;
    for (; len >= 8; data += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        state = __crc32cd(state, word);
    }
    for (; len > 0; data++, len--)
        state = __crc32cb(state, *data);
    return ~state;
}
/* HWCAP_CRC32 of the arm64 kernel interface. */
static int have_hardware(void) { return (getauxval(AT_HWCAP) & (1ul << 7)) != 0; }
#else
#define crc32c_hardware dp_crc32c_table
static int have_hardware(void) { return 0; }
#endif

uint32_t dp_crc32c(uint32_t crc, const uint8_t *data, size_t len)
{
    return have_hardware() ? crc32c_hardware(crc, data, len) : dp_crc32c_table(crc, data, len);
}
