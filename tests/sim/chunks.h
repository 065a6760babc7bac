/* What an SCTP packet holds, for SIM_TRACE=1. */
#ifndef TESTS_SIM_CHUNKS_H
#define TESTS_SIM_CHUNKS_H

#include <datapeer/base.h>

/* Each chunk on stderr, on a line with what, which comes first. */
void sim_print_chunks(const char *what, const uint8_t *packet, size_t len);

#endif
