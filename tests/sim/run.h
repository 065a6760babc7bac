/* Runs two ends of bare ICE until they are done, and checks what has to hold whatever the network was: no busy loop,
 * nobody waits for nothing, both come to the same result, and on success both use the same path. */
#ifndef TESTS_SIM_RUN_H
#define TESTS_SIM_RUN_H

#include "host.h"

typedef enum sim_outcome {
    SIM_CONNECTED,
    SIM_FAILED, /* both say so */
    SIM_BROKEN, /* why tells what doesn't hold */
} sim_outcome;

/* Joined hosts, started or with a start under way. */
sim_outcome sim_settle(sim_net *net, sim_host *a, sim_host *b, const char **why);
/* A datagram of each reaches the other, on the pair that the other says is selected. Within a minute. */
bool sim_agree(sim_net *net, sim_host *a, sim_host *b);
/* Steps until done, for span at most. False: the time is up, or there was a busy loop. */
bool sim_run_until(sim_net *net, dp_duration span, bool (*done)(void *ctx), void *ctx);
/* From both descriptions known to the first pair that data could be sent on, the later one of both ends. */
dp_duration sim_time_to_usable(const sim_host *a, const sim_host *b);

#endif
