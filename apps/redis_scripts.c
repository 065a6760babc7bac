#include "redis_scripts.h"

#define STRING_OF(x) #x
#define TEXT_OF(x)   STRING_OF(x)
#define TTL          TEXT_OF(REDIS_NODE_TTL_MS)
#define LETTERS      TEXT_OF(REDIS_LETTERS_MAX)
#define BYTES        TEXT_OF(REDIS_LETTERS_BYTES_MAX)

/* Calls f(name of a node, key of its hash) for each; what it returns ends that. */
#define LUA_NODES                                                                                            \
    "local P = KEYS[1] "                                                                                     \
    "local function nodes(f) "                                                                               \
    "  for _, n in ipairs(redis.call('SMEMBERS', P .. ':nodes')) do "                                        \
    "    local r = f(n, P .. ':node:' .. n) "                                                                \
    "    if r then return r end "                                                                            \
    "  end "                                                                                                 \
    "end "

static const char enrol[] = "local own = KEYS[1] .. ':node:' .. ARGV[1] "
                            "redis.call('SADD', KEYS[1] .. ':nodes', ARGV[1]) "
                            "redis.call('HSET', own, '', '1') "
                            "redis.call('PEXPIRE', own, " TTL ") "
                            "return 'ok'";

static const char refresh[] = "local own = KEYS[1] .. ':node:' .. ARGV[1] "
                              "if redis.call('HEXISTS', own, '') == 0 then return 'gone' end "
                              "redis.call('SADD', KEYS[1] .. ':nodes', ARGV[1]) "
                              "redis.call('PEXPIRE', own, " TTL ") "
                              "return 'ok'";

static const char claim[] =
    LUA_NODES "local me, id, proof, stamp, renew = unpack(ARGV) "
              "local own = P .. ':node:' .. me "
              "if redis.call('HEXISTS', own, '') == 0 then return {'gone'} end "
              "local no = nodes(function(n, key) "
              "  local held = redis.call('HGET', key, id) "
              "  if not held then "
              "    if redis.call('EXISTS', key) == 0 then redis.call('SREM', P .. ':nodes', n) end "
              "    return "
              "  end "
              "  local since, token = held:match('^(%d+) (%x+)$') "
              "  if token ~= proof then return 'taken' end "
              "  if renew == '1' and tonumber(since) > tonumber(stamp) then return 'moved' end "
              "  if n ~= me then "
              "    redis.call('HDEL', key, id) "
              "    redis.call('PUBLISH', P .. ':to:' .. n, 'M' .. since .. ' ' .. id) "
              "  end "
              "end) "
              "if no then return {no} end "
              "redis.call('HSET', own, id, stamp .. ' ' .. proof) "
              "local queue = P .. ':queue:' .. id "
              "local reply = {'granted'} "
              "for _, item in ipairs(redis.call('LRANGE', queue, 0, -1)) do reply[#reply + 1] = item end "
              "redis.call('DEL', queue) "
              "return reply";

static const char release[] =
    "local own = KEYS[1] .. ':node:' .. ARGV[1] "
    "local held = redis.call('HGET', own, ARGV[2]) "
    "if held and held:match('^%d+') == ARGV[3] then redis.call('HDEL', own, ARGV[2]) end "
    "return 'ok'";

/* Without a listener the node has died, or has lost its link: then its client comes again, here or elsewhere. */
static const char forward[] =
    LUA_NODES "local owner, dst, letter, keep, ms = unpack(ARGV) "
              "local sent = nodes(function(n, key) "
              "  return redis.call('HEXISTS', key, dst) == 1 and "
              "    redis.call('PUBLISH', P .. ':to:' .. n, 'L' .. letter) > 0 and 'sent' "
              "end) "
              "if sent then return sent end "
              "if keep ~= '1' then return 'absent' end "
              "local queue = P .. ':queue:' .. dst "
              "local items = redis.call('LRANGE', queue, 0, -1) "
              "local bytes = #letter "
              "for _, item in ipairs(items) do bytes = bytes + #item end "
              "if #items >= " LETTERS " or bytes > " BYTES " then return 'absent' end "
              "redis.call('RPUSH', queue, owner .. '\\n' .. letter) "
              "redis.call('PEXPIRE', queue, ms) "
              "return 'kept'";

static const char withdraw[] = "local queue = KEYS[1] .. ':queue:' .. ARGV[2] "
                               "local reply, seen = {}, {} "
                               "for _, item in ipairs(redis.call('LRANGE', queue, 0, -1)) do "
                               "  local owner, src = item:match('^(%x+)\\n%d%u([^\\n]*)\\n') "
                               "  if owner == ARGV[1] then "
                               "    redis.call('LREM', queue, 1, item) "
                               "    if not seen[src] then reply[#reply + 1] = src end "
                               "    seen[src] = true "
                               "  end "
                               "end "
                               "return reply";

static const char list[] = LUA_NODES "local ids = {} "
                                     "nodes(function(n, key) "
                                     "  for _, id in ipairs(redis.call('HKEYS', key)) do "
                                     "    if id ~= '' then ids[#ids + 1] = id end "
                                     "  end "
                                     "end) "
                                     "return ids";

static const char forget[] = "redis.call('SREM', KEYS[1] .. ':nodes', ARGV[1]) "
                             "redis.call('DEL', KEYS[1] .. ':node:' .. ARGV[1]) "
                             "return 'ok'";

const char *const redis_scripts[SCRIPTS] = {
    [SCRIPT_REGISTER] = enrol,  [SCRIPT_REFRESH] = refresh, [SCRIPT_CLAIM] = claim,
    [SCRIPT_RELEASE] = release, [SCRIPT_FORWARD] = forward, [SCRIPT_WITHDRAW] = withdraw,
    [SCRIPT_LIST] = list,       [SCRIPT_FORGET] = forget,
};
