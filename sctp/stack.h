/* usrsctp, as one association sees it: one socket each. It is one per process, is driven from one thread, and calls back
 * while it holds locks: so the output callback only queues (calling anything here from it deadlocks). */
#ifndef SCTP_STACK_H
#define SCTP_STACK_H

#include "association.h"

#define DP_STACK_RTO_MIN_MS                                                                                  \
    250u /* over the peer's delayed SACK of 200 ms, else a lone packet is sent twice */

/* The callee may change the packet. */
typedef void dp_stack_output(void *ctx, uint8_t *packet, size_t len);

typedef struct dp_stack {
    uint64_t id;           /* what usrsctp takes for an address is a number, never a pointer */
    struct socket *socket; /* NULL once it is closed */
    uint16_t local_port;
    uint16_t remote_port;
    bool registered;
    bool readable; /* set when there may be something to receive; the owner clears it */
    dp_stack_output *output;
    void *ctx;
} dp_stack;

/* Opens the socket and sends INIT. The stack must not move in memory. On failure it is to be cleared. NO_MEMORY, IO. */
int dp_stack_open(dp_stack *stack, dp_time now, const dp_association_config *config, dp_stack_output *output,
                  void *ctx);
/* Sends ABORT with cause 12; nothing but clear works after that. */
void dp_stack_close(dp_stack *stack);
/* Aborts silently. */
void dp_stack_clear(dp_stack *stack);

/* Drives the timers of all associations of the process. */
void dp_stack_tick(dp_time now);
void dp_stack_input(dp_stack *stack, const uint8_t *packet, size_t len);
/* WOULD_BLOCK: there is no room. CLOSED. */
int dp_stack_send(dp_stack *stack, size_t *sent, const dp_association_outgoing *how, const uint8_t *data,
                  size_t len, bool last);
/* Data, or a notification as an event. NOTHING: there is nothing to read. */
void dp_stack_receive(dp_stack *stack, dp_association_event *event, uint8_t *buffer, size_t capacity);
/* See the functions of association.h. */
bool dp_stack_cut_short(dp_stack *stack);
int dp_stack_reset_stream(dp_stack *stack, uint16_t stream);
int dp_stack_add_streams(dp_stack *stack, uint16_t count);
uint16_t dp_stack_streams(const dp_stack *stack);
bool dp_stack_get_stats(const dp_stack *stack, dp_sctp_stats *out);

/* ---- options of the socket: true if they were taken ---------------------------------------------- */

/* What open makes it: not below two messages. */
size_t dp_stack_receive_buffer(const dp_association_config *config);
/* The path MTU is a fact of the datagram layer below: usrsctp must not probe for it. mtu counts the common header. */
bool dp_stack_set_path(dp_stack *stack, size_t mtu);
bool dp_stack_set_receive_buffer(dp_stack *stack, size_t size);
bool dp_stack_set_send_buffer(dp_stack *stack, size_t size);
/* Longer messages are given out before their end has come, see delivery.h. */
bool dp_stack_set_delivery_point(dp_stack *stack, size_t point);
bool dp_stack_set_rto_min(dp_stack *stack, uint32_t ms);
/* Asks for the event DRY anew: it comes at once if it is true. */
bool dp_stack_ask_whether_dry(dp_stack *stack);

#endif
