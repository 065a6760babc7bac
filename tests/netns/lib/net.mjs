// A small internet of network namespaces: a core with public addresses, and sites that hang on it, each a router (NAT, firewall)
// with a link for hosts behind it.
//
//     site 1: host -- eth0 -- [router: lan | wan] -- [core: PeerServer, coturn] -- [wan | lan :router] -- eth0 -- host :site 2
//
// What stands here is removed by close() or, if the test process dies, by a watcher. Names have the process id, so runs don't meet.
import { execFile, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, World } from '../../interop/lib/world.mjs';

export const CORE = { 4: '203.0.113.1', 6: '2001:db8::1', name: 'turn.example.org' };

const OURS = `datapeer-${process.pid}`; // how the names of this process begin
const FAMILIES = [4, 6];
let count = 0;

// Why there can be no networks here; undefined if there can.
export const unable = probe();
const folder = unable ? null : mkdtempSync(join(tmpdir(), `${OURS}-`));
if (!unable) watch();

function probe() {
    if (process.getuid() !== 0) return 'network namespaces need root';
    const name = `${OURS}-probe`;
    const script = `
        ip netns add ${name}
        ip -n ${name} link add wan type veth peer name up
        ip -n ${name} link add lan type bridge
        ip netns exec ${name} nft add table inet router
        ip netns exec ${name} nft 'add chain inet router nat { type nat hook postrouting priority 100; }'
        ip netns exec ${name} nft 'add rule inet router nat ip saddr 10.0.0.0/8 masquerade fully-random'
        ip netns exec ${name} tc qdisc add dev wan root tbf rate 1mbit burst 10kb latency 50ms`;
    const { status, stderr, error } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' });
    spawnSync('ip', ['netns', 'delete', name]);
    if (error || status !== 0) return `no network namespaces with veth, bridge, nftables and tbf here: ${error?.message ?? stderr.trim()}`;
}

function removeNamespace(name) {
    spawnSync('ip', ['netns', 'delete', name]);
    rmSync(join('/etc/netns', name), { recursive: true, force: true });
}

// A process in a session of its own that waits until this one is gone, however it went, and removes what it then left.
function watch() {
    const script = `
        cat
        for path in /run/netns/${OURS}-*; do
            [ -e "$path" ] || continue
            ip netns pids "\${path##*/}" | xargs -r kill -KILL
            ip netns delete "\${path##*/}"
        done
        rm -rf /etc/netns/${OURS}-* ${folder}`;
    const watcher = spawn('sh', ['-c', script], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    watcher.unref();
    watcher.stdin.unref();
}

export class Net extends World {
    #id = `${OURS}-${++count}`;
    #sites = 0;

    // Ends with the test t.
    static async create(t) {
        const net = new this();
        t.after(() => net.close());
        net.core = net.#namespace('core');
        // What goes to nobody is swallowed, as by the real internet. coturn gives up an allocation when the kernel refuses a datagram.
        await net.core.run(`
            ip address add ${CORE[4]}/32 dev lo
            ip address add ${CORE[6]}/128 dev lo
            ip link add void arp off type veth peer name nowhere
            ip link set void up
            ip link set nowhere up
            ip -4 route add default dev void
            ip -6 route add default dev void`, forwarding);
        return net;
    }

    async temporaryFolder() {
        return mkdtemp(join(folder, 'test-')); // removed with all of them
    }

    #namespace(name) {
        const full = `${this.#id}-${name}`;
        this.defer(() => removeNamespace(full));
        return new Namespace(full, this);
    }

    // nat, in the words of RFC 4787: 'none': public addresses, everything is let in; 'firewall': public addresses, only answers are let
    // in. The others translate IPv4 (for IPv6 they are firewalls), 'eim' and 'restricted' to one port for all destinations: 'eim' lets
    // in whatever comes from an address that was called, 'restricted' only from an address and port; 'symmetric' takes another random
    // port for each destination and lets in answers from there alone.
    // families: those that the site has. forward: nft rules for what the router forwards, before all others.
    async site({ nat = 'restricted', families = FAMILIES, forward = [] } = {}) {
        const number = ++this.#sites;
        const router = this.#namespace(`router${number}`);
        const up = `up${number}`;
        const uplink = { 4: [`198.51.100.${4 * number + 1}`, `198.51.100.${4 * number + 2}`, 30], 6: [`2001:db8:ff:${number}::1`, `2001:db8:ff:${number}::2`, 64] };
        const lan = { 4: `10.0.${number}.`, 6: `2001:db8:${number}::` };
        const lines = [
            `ip -n ${this.core.name} link add ${up} type veth peer name wan netns ${router.name}`,
            `ip -n ${this.core.name} link set ${up} up`,
            'ip link set wan up',
            'ip link add lan type bridge',
            'ip link set lan up',
        ];
        for (const family of families) {
            const [there, here, length] = uplink[family];
            const prefix = family === 4 ? 24 : 64;
            lines.push(
                `ip -n ${this.core.name} address add ${there}/${length} dev ${up}`,
                `ip address add ${here}/${length} dev wan`,
                `ip address add ${lan[family]}1/${prefix} dev lan`,
                `ip -${family} route add default via ${there}`,
            );
            const routed = family === 6 || nat === 'none' || nat === 'firewall';
            if (routed) lines.push(`ip -${family} -n ${this.core.name} route add ${lan[family]}${family === 4 ? '0' : ''}/${prefix} via ${here}`);
        }
        await router.run(lines.join('\n'), forwarding);
        await router.nft(rules(nat, forward, `${lan[4]}2`));
        return new Site(this, number, router, lan, families, uplink);
    }

    // A host with an interface eth0, eth1... on each of the sites; the first is the default route.
    async host(name, ...sites) {
        const host = this.#namespace(name);
        mkdirSync(`/etc/netns/${host.name}`, { recursive: true }); // ip netns exec puts it over /etc
        const families = sites[0].families;
        const names = families.map((family) => `${CORE[family]} ${CORE.name}\n`).join('');
        writeFileSync(`/etc/netns/${host.name}/hosts`, `127.0.0.1 localhost\n::1 localhost\n${names}`);
        // Nobody answers for other names, and says so: Firefox would wait half a minute for an answer before it starts.
        writeFileSync(`/etc/netns/${host.name}/resolv.conf`, 'nameserver 127.0.0.1\n');
        for (const [index, site] of sites.entries()) await site.attach(host, `eth${index}`, index + 1);
        return host;
    }
}

class Site {
    #net;
    #hosts = 0;
    #lan;
    #uplink;

    constructor(net, number, router, lan, families, uplink) {
        this.#net = net;
        this.number = number;
        this.router = router;
        this.#lan = lan;
        this.families = families;
        this.#uplink = uplink;
    }

    async attach(host, device, metric) {
        const index = ++this.#hosts;
        const lines = [
            `ip link add ${device} type veth peer name port${index} netns ${this.router.name}`,
            `ip -n ${this.router.name} link set port${index} master lan up`,
            `ip link set ${device} up`,
        ];
        // What has this address leaves through this device, whatever the metrics say.
        for (const family of this.families) lines.push(`ip -${family} rule add from ${this.#lan[family]}${index + 1} lookup ${100 + metric}`);
        await host.run(lines.join('\n'), this.#addresses(device, index, metric));
    }

    // What the kernel forgets of a device that goes down.
    #addresses(device, index, metric) {
        return this.families.map((family) => `
            ip address replace ${this.#lan[family]}${index + 1}/${family === 4 ? 24 : 64} dev ${device}
            ip -${family} route add default via ${this.#lan[family]}1 dev ${device} metric ${metric}
            ip -${family} route add default via ${this.#lan[family]}1 dev ${device} table ${100 + metric}`).join('');
    }

    // The first host loses its address, and then has it again.
    async without(host, meanwhile) {
        await host.run('ip address flush dev eth0; ip link set eth0 down');
        await meanwhile();
        await host.run('ip link set eth0 up', this.#addresses('eth0', 1, 1));
    }

    // The provider gives the router another IPv4 address: all translations are forgotten with the old one.
    async renumber() {
        const [there, here] = this.#uplink[4];
        const fresh = [1, 2].map((end) => `198.51.100.${128 + 4 * this.number + end}`);
        const up = `dev up${this.number}`;
        await this.#net.core.run(`ip address del ${there}/30 ${up}`, `ip address add ${fresh[0]}/30 ${up}`);
        await this.#reconnect(here, fresh);
        this.#uplink[4] = fresh;
    }

    // The router starts again: all translations are forgotten, and a symmetric NAT takes other ports.
    async restart() {
        await this.#reconnect(this.#uplink[4][1], this.#uplink[4]);
    }

    // Without its address the kernel forgets what it masqueraded with it.
    #reconnect(old, [there, here]) {
        return this.router.run(`
            ip address del ${old}/30 dev wan
            ip address add ${here}/30 dev wan
            ip -4 route add default via ${there}`);
    }

    // Limits what comes to this site and what leaves it.
    async limit(rate) {
        const shape = (device) => `tc qdisc replace dev ${device} root tbf rate ${rate} burst 64kb latency 50ms`;
        await this.router.run(shape('wan'));
        await this.#net.core.run(shape(`up${this.number}`));
    }
}

class Namespace {
    #net;

    constructor(name, net) {
        this.name = name;
        this.#net = net;
        // No duplicate address detection: nobody else has these addresses, so they can be used at once.
        const script = `
            ip netns add ${name}
            ip -n ${name} link set lo up
            ip netns exec ${name} sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'`;
        const { status, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' });
        if (status !== 0) throw new Error(stderr);
    }

    // Runs shell lines inside, and fails with what they print.
    async run(...scripts) {
        return command('ip', ['netns', 'exec', this.name, 'sh', '-ec', scripts.join('\n')]);
    }

    nft(ruleset) {
        return this.run(`nft -f - <<'END'\n${ruleset}\nEND`);
    }

    // Starts a program inside; its standard output and error are one stream of lines.
    start(path, args, env = {}) {
        const program = new Inside(this.name, path, args, env);
        this.#net.defer(() => program.stop());
        return program;
    }

    async started(path, args, { env, ready }) {
        const program = this.start(path, args, env);
        await program.waitLine(ready);
        return program;
    }
}

class Inside extends Program {
    constructor(namespace, path, args, env) {
        super('ip', ['netns', 'exec', namespace, 'sh', '-c', 'exec "$0" "$@" 2>&1', path, ...args], env);
        this.name = [path.slice(path.lastIndexOf('/') + 1), args[0]].join(' ');
    }

    get errors() {
        return this.lines.slice(-30).join('\n');
    }

    set errors(text) {} // there are none apart
}

const forwarding = 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding';

function rules(nat, forward, host) {
    const closed = nat !== 'none';
    const translate = { eim: 'masquerade', restricted: 'masquerade', symmetric: 'masquerade fully-random' }[nat];
    // A datagram that came too early must leave no trace in conntrack, or the translation of our own to the same peer would get
    // another port; so what is not wanted is dropped, not refused.
    return `table inet router {
        set called {
            type ipv4_addr
            flags dynamic, timeout
            timeout 5m
        }
        chain received {
            type nat hook prerouting priority -100;
            ${nat === 'eim' ? `iifname "wan" meta l4proto udp ip saddr @called dnat ip to ${host}` : ''}
        }
        chain incoming {
            type filter hook input priority 0;
            iifname "wan" meta l4proto { tcp, udp } ct state new drop
        }
        chain forwarded {
            type filter hook forward priority 0;
            ${forward.join('\n')}
            oifname "wan" meta l4proto udp add @called { ip daddr }
            ${closed ? 'iifname "wan" ct state { new, invalid } ct status ! dnat drop' : ''}
        }
        chain translated {
            type nat hook postrouting priority 100;
            ${translate ? `meta nfproto ipv4 oifname "wan" ${translate}` : ''}
        }
    }`;
}

function command(path, args) {
    return new Promise((resolve, reject) => {
        execFile(path, args, (error, stdout, stderr) => {
            if (error) reject(new Error(`${args.slice(2).join(' ')}\n${stderr}`));
            else resolve(stdout);
        });
    });
}
