/* Everything that datapeer offers. Each header can be included alone. */
#ifndef DATAPEER_H
#define DATAPEER_H

#include <datapeer/base.h>
#include <datapeer/dtls.h>
#include <datapeer/ice.h>
#include <datapeer/mdns.h>
#include <datapeer/net.h>
#include <datapeer/pc_loop.h>
#include <datapeer/peer.h>
#include <datapeer/peer_connection.h>
#include <datapeer/rpc.h>
#include <datapeer/sctp.h>
#include <datapeer/sdp.h>
#include <datapeer/signal_server.h>
#include <datapeer/signaling.h>
#include <datapeer/stun_server.h>

#define DP_VERSION "0.1.0"

#endif
