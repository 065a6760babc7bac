/* What several nodes have in Redis, and the steps that change it.
 *
 * P is "datapeer:{KEY}", KEY the PeerServer's: nodes with the same one are one server.
 *
 *   P:nodes        set of the names of nodes
 *   P:node:NAME    hash, expires: id -> "STAMP PROOF"; and the empty id, so that it is there without clients, too
 *   P:queue:ID     list, expires: "OWNER\nLETTER" for an absent peer; OWNER: the process whose sender is told EXPIRE
 *   P:to:NAME      channel: "L" LETTER, or "M" STAMP " " ID: that client has joined elsewhere
 *
 * Each step is a script in Lua, so that none sees another half done. KEYS[1] is P; its braces keep all keys on one machine of
 * a Redis Cluster. */
#ifndef APPS_REDIS_SCRIPTS_H
#define APPS_REDIS_SCRIPTS_H

#define REDIS_NODE_TTL_MS       15000 /* a node that does not say that it lives is forgotten after this time */
#define REDIS_LETTERS_MAX       64    /* for one absent peer, from all nodes... */
#define REDIS_LETTERS_BYTES_MAX 262144

typedef enum redis_script {                  /* ARGV -> reply */
                            SCRIPT_REGISTER, /* name -> ok */
                            SCRIPT_REFRESH,  /* name -> ok | gone */
                            SCRIPT_CLAIM, /* name, id, proof, stamp, renew -> [granted, item...] | [taken] | [moved] | [gone] */
                            SCRIPT_RELEASE,  /* name, id, stamp -> ok */
                            SCRIPT_FORWARD,  /* owner, dst, letter, keep, ms -> sent | kept | absent */
                            SCRIPT_WITHDRAW, /* owner, dst -> [src...] */
                            SCRIPT_LIST,     /* -> [id...] */
                            SCRIPT_FORGET,   /* name -> ok */
                            SCRIPTS
} redis_script;

extern const char *const redis_scripts[SCRIPTS];

#endif
