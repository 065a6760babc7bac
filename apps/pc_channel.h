/* A channel of `datapeer pc`: what was asked of it under its label, and what comes on it. */
#ifndef APPS_PC_CHANNEL_H
#define APPS_PC_CHANNEL_H

#include <datapeer/datapeer.h>

/* Something to do on a channel, in its turn. */
typedef struct pc_job {
    struct pc_job *next;
    enum { JOB_PATTERN, JOB_BYTES, JOB_ECHO, JOB_CLOSE } kind;
    bool binary;
    uint64_t seed;
    uint64_t count;
    uint64_t done;
    size_t len;
    uint8_t data[]; /* of one message */
} pc_job;

/* A label: what was asked for it, and its channel once there is one. */
typedef struct pc_channel {
    struct pc_channel *next;
    dp_channel *dc;
    bool incoming;
    bool ended; /* its channel is closed */
    bool echo;
    uint64_t sink_count;
    uint64_t sunk;
    uint64_t sink_size;
    dp_time sink_first;
    dp_sha256_hash *sink;
    /* The message that comes, which may do so in parts. */
    dp_sha256_hash *hash; /* NULL: it is sunk */
    pc_job *echoed;       /* NULL: it is not to be echoed */
    size_t echo_capacity;
    uint64_t size;
    pc_job *first, **last;
    size_t label_len;
    char label[];
} pc_channel;

typedef struct pc_channels {
    pc_channel *first;
    size_t echo_bytes; /* that wait to be echoed, of all of them */
} pc_channels;

/* The label's channel, made if there is none. NULL: no memory, printed. */
pc_channel *pc_channel_of(pc_channels *all, const char *label, size_t len);
/* All that is allocated for it, but itself. */
void pc_channel_forget(pc_channels *all, pc_channel *c);
void pc_channels_free(pc_channels *all);

/* job: allocated by malloc, the channel's from now on. */
void pc_channel_push(pc_channel *c, pc_job *job);
/* Hands over what there is room for. */
void pc_channel_work(pc_channels *all, pc_channel *c, dp_time now);
/* A whole message, or a part of one: printed, sunk or echoed. */
void pc_channel_message(pc_channels *all, pc_channel *c, dp_time now, const dp_pc_event *e);

/* Lines of docs/interop.md, part 1, to be completed and printed. */
dp_value *pc_line(const char *event);
dp_value *pc_channel_line(const char *event, const pc_channel *c);
void pc_print_open(const pc_channel *c);
/* cmd, c NULL: none. */
void pc_print_error(const char *message, const char *cmd, const pc_channel *c);

#endif
