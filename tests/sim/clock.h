/* The simulation's clock and randomness, for libraries that take them from the operating system: usrsctp
 * (gettimeofday, the getrandom system call) and mbedTLS (time). Linking clock.o replaces those functions. */
#ifndef TESTS_SIM_CLOCK_H
#define TESTS_SIM_CLOCK_H

#include <datapeer/base.h>

extern dp_time sim_clock; /* microseconds since SIM_EPOCH */
#define SIM_EPOCH 1700000000

/* What getrandom gives from now on follows from seed. Before the first dp_sctp of the process. */
void sim_clock_seed(uint64_t seed);

/* splitmix64: every random choice of the simulation is made with it. */
static inline uint64_t sim_random(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline unsigned sim_below(uint64_t *seed, unsigned limit)
{
    return (unsigned)(sim_random(seed) % limit);
}

/* A dp_random source; ctx is the seed (uint64_t). */
int sim_random_bytes(void *ctx, uint8_t *out, size_t len);

#endif
