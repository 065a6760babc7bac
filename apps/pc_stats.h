/* What `datapeer pc` tells of its connection; names and units are those of W3C webrtc-stats, but times are in ms. */
#ifndef APPS_PC_STATS_H
#define APPS_PC_STATS_H

#include <datapeer/datapeer.h>

/* NULL where there is no memory; the caller's. */
dp_value *pc_stats(const dp_pc *pc);
dp_value *pc_stats_channel(const dp_channel *channel);

#endif
