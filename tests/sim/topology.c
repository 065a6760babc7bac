#include "topology.h"

#include <stdio.h>
#include <string.h>

/* ---- drawing ---- */

static bool one_in(uint64_t *seed, unsigned n) { return sim_below(seed, n) == 0; }

static dp_duration up_to_ms(uint64_t *seed, unsigned ms) { return DP_MS(sim_below(seed, ms + 1)); }

static void draw_nat(sim_nat_config *nat, uint64_t *seed)
{
    nat->mapping = (sim_dependence)sim_below(seed, 3);
    nat->filtering = (sim_dependence)sim_below(seed, 3);
    nat->preserve_port = one_in(seed, 2);
    nat->hairpin = one_in(seed, 2);
    if (one_in(seed, 12)) { /* a firewall: at most the TURN server is let through */
        nat->blocked = true;
        if (one_in(seed, 2)) {
            nat->allowed[nat->allowed_count++] = sim_address(SIM_TURN4, 3478);
            nat->allowed[nat->allowed_count++] = sim_address(SIM_TURN6, 3478);
        }
    }
}

static void draw_link(sim_link *link, uint64_t *seed, unsigned loss)
{
    link->delay = DP_MS(1) + up_to_ms(seed, 60);
    link->jitter = one_in(seed, 2) ? up_to_ms(seed, 40) : 0;
    link->loss = loss;
    if (loss > 0 && one_in(seed, 3)) { /* the same on average, in bursts: bad for a sixth of the time */
        link->loss = loss / 2;
        link->burst_enter = 20;
        link->burst_leave = 100;
        link->burst_loss = loss * 7 / 2 < 900 ? loss * 7 / 2 : 900;
    }
    link->duplicate = one_in(seed, 3) ? sim_below(seed, 200) : 0;
    link->reorder = one_in(seed, 3) ? sim_below(seed, 300) : 0;
    link->reorder_delay = up_to_ms(seed, 100);
    if (one_in(seed, 10)) {
        link->rate = 8000 + sim_below(seed, 100000);
        link->queue = 4000;
    }
}

static void draw_access(sim_access *access, uint64_t *seed, unsigned loss)
{
    unsigned families = sim_below(seed, 4);
    access->depth = sim_below(seed, SIM_DEPTH_MAX + 1);
    access->ipv4 = families != 3;
    access->ipv6 = families >= 2;
    for (unsigned i = 0; i < access->depth; i++)
        draw_nat(&access->nats[i], seed);
    draw_link(&access->link, seed, loss);
    access->far = up_to_ms(seed, 40);
}

static void draw_side(sim_side *side, uint64_t *seed, unsigned loss)
{
    side->access_count = one_in(seed, 4) ? 2 : 1;
    for (size_t i = 0; i < side->access_count; i++)
        draw_access(&side->accesses[i], seed, loss);
    side->stun = !one_in(seed, 4);
    side->turn = one_in(seed, 3);
    side->turn_transport = one_in(seed, 3) ? (one_in(seed, 2) ? DP_ICE_TCP : DP_ICE_TLS) : DP_ICE_UDP;
    side->streams_blocked = one_in(seed, 6);
    side->relay_only = side->turn && one_in(seed, 5);
    side->role = one_in(seed, 2) ? DP_ICE_CONTROLLING : DP_ICE_CONTROLLED;
    side->start = one_in(seed, 2) ? 0 : up_to_ms(seed, 2000);
    side->signal_delay = up_to_ms(seed, 300);
    side->signal_jitter = one_in(seed, 2) ? 0 : up_to_ms(seed, 500);
}

void sim_topology_draw(sim_topology *out, uint64_t seed)
{
    memset(out, 0, sizeof *out);
    out->seed = seed;
    uint64_t *s = &seed;
    /* Of both ends' links together up to 30 %. */
    out->loss = one_in(s, 3) ? 0 : sim_below(s, 164);
    unsigned other_loss = one_in(s, 2) ? out->loss : 0;
    if (other_loss == 0)
        out->loss = out->loss * 300 / 164;
    draw_side(&out->sides[0], s, out->loss);
    draw_side(&out->sides[1], s, other_loss);
    out->servers_ipv6 = one_in(s, 2);
    out->nonce_lifetime = one_in(s, 4) ? DP_SECONDS(1) : 0;
    if (one_in(s, 3)) { /* as offer and answer make it; else as it comes, both controlling among them */
        out->sides[0].role = DP_ICE_CONTROLLING;
        out->sides[1].role = DP_ICE_CONTROLLED;
    }
    switch (sim_below(s, 8)) {
    case 0:
        out->sharing = SIM_SAME_LAN;
        break;
    case 1:
        if (out->sides[0].accesses[0].depth == 2 && out->sides[1].accesses[0].depth == 2)
            out->sharing = SIM_SAME_OUTER_NAT;
        break;
    default:
        break;
    }
}

/* ---- printing ---- */

static void print_access(const sim_access *access)
{
    static const char *const kinds[] = {"EI", "AD", "APD"};
    printf(
        "    network:%s%s, delay %u ms, jitter %u ms, loss %u/%u, duplicate %u, reorder %u per mille, %u B/s",
        access->ipv4 ? " IPv4" : "", access->ipv6 ? " IPv6" : "", (unsigned)(access->link.delay / 1000),
        (unsigned)(access->link.jitter / 1000), access->link.loss, access->link.burst_loss,
        access->link.duplicate, access->link.reorder, (unsigned)access->link.rate);
    for (unsigned i = 0; i < access->depth; i++) {
        const sim_nat_config *nat = &access->nats[i];
        printf("\n      NAT %s/%s%s%s%s", kinds[nat->mapping], kinds[nat->filtering],
               nat->preserve_port ? ", keeps ports" : "", nat->hairpin ? ", hairpin" : "",
               nat->blocked ? (nat->allowed_count > 0 ? ", only TURN passes" : ", nothing passes") : "");
    }
    putchar('\n');
}

void sim_topology_print(const sim_topology *t)
{
    static const char *const sharing[] = {"apart", "same LAN", "same outer NAT"};
    static const char *const transports[] = {"UDP", "TCP", "TLS"};
    printf("seed %llu: %s, servers with%s IPv6\n", (unsigned long long)t->seed, sharing[t->sharing],
           t->servers_ipv6 ? "" : "out");
    for (size_t i = 0; i < 2; i++) {
        const sim_side *side = &t->sides[i];
        printf("  %c: %s%s%s%s%s%s, starts at %u ms, signals %u + %u ms\n", (char)('A' + i),
               side->role == DP_ICE_CONTROLLING ? "controlling" : "controlled", side->stun ? ", STUN" : "",
               side->turn ? ", TURN by " : "", side->turn ? transports[side->turn_transport] : "",
               side->streams_blocked ? ", TCP blocked" : "", side->relay_only ? ", relay only" : "",
               (unsigned)(side->start / 1000), (unsigned)(side->signal_delay / 1000),
               (unsigned)(side->signal_jitter / 1000));
        for (size_t k = 0; k < side->access_count; k++)
            print_access(&side->accesses[k]);
    }
}

/* ---- building ---- */

static dp_address made(const char *format, unsigned a, unsigned b, unsigned c)
{
    char text[64];
    snprintf(text, sizeof text, format, a, b, c);
    return sim_address(text, 0);
}

/* From outside in; the last segment is the end's. */
static void build_access(sim_built *out, const sim_topology *t, sim_net *net, unsigned side, unsigned k,
                         bool perfect)
{
    static const char *const names[2][2] = {{"A home", "A outer"}, {"B home", "B outer"}};
    const sim_access *access = &t->sides[side].accesses[k];
    sim_plug *plug = &out->plugs[side][k];
    bool shared = side == 1 && k == 0 && t->sharing != SIM_APART;
    const sim_access *first = shared && t->sharing == SIM_SAME_LAN ? &t->sides[0].accesses[0] : access;
    sim_link none = {0};
    sim_link far = {.delay = perfect ? 0 : access->far};
    sim_nat **nats = out->nats[side][k];
    sim_segment *segment = out->internet;
    if (shared && t->sharing == SIM_SAME_LAN) {
        segment = out->plugs[0][0].segment;
        memcpy(nats, out->nats[0][0], sizeof out->nats[0][0]);
    }
    for (unsigned i = access->depth; i-- > 0 && first == access;) {
        /* The provider's network between two NATs is 100.64/16 (RFC 6598). */
        bool outermost = i + 1 == access->depth;
        dp_address ip =
            outermost ? made("203.0.113.%u", 10 + side * 10 + k, 0, 0) : made("100.64.%u.%u", side, k + 2, 0);
        if (outermost && shared) {
            nats[i] = out->nats[0][0][1];
            segment = sim_nat_inside_segment(nats[i]);
            continue;
        }
        sim_segment *inside = sim_segment_new(net);
        nats[i] = sim_nat_new(net, names[side][i], &access->nats[i], inside, segment, &ip, &none,
                              outermost ? &far : &none);
        segment = inside;
    }
    plug->segment = segment;
    unsigned depth = first->depth;
    if (access->ipv4)
        plug->ipv4 = depth == 0 ? made("203.0.113.%u", 100 + side * 10 + k, 0, 0)
                                : made("192.168.%u.%u", 1 + side * 2 + k, 2, 0);
    if (access->ipv6) {
        plug->ipv6 = made("2001:db8:%x::%x", 1 + side * 2 + k, 2, 0);
        for (unsigned i = 0; i < depth; i++)
            sim_nat_route(nats[i], &plug->ipv6);
    }
}

void sim_topology_build(sim_built *out, const sim_topology *topology, sim_net *net, bool perfect)
{
    memset(out, 0, sizeof *out);
    out->internet = sim_segment_new(net);
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned k = 0; k < topology->sides[side].access_count; k++)
            build_access(out, topology, net, side, k, perfect);
    }
}
