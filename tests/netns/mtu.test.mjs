// Links of other sizes than 1,500 bytes, which routers tell or do not tell: a file is fetched, in packets as large as the way takes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Internet, limits } from './lib/internet.mjs';

const UDP = 8;
const IP = { 4: 20, 6: 40 };

// The links of a site: those of the host and the one between its router and the internet. The host cuts into packets itself what
// its programs hand over as segments.
async function resize(net, site, host, lan, wan) {
    await net.core.run(`ip link set up${site.number} mtu ${wan}`);
    await site.router.run(`ip link set wan mtu ${wan}`, `ip link set port1 mtu ${lan}`, `ip link set lan mtu ${lan}`);
    await host.run(`ip link set eth0 mtu ${lan} gso_max_segs 1`);
}

// Routers that never send ICMP errors about sizes, and that let no fragments through (priority -400 puts them together).
const SILENT = `chain silent {
    type filter hook output priority 0;
    icmp type destination-unreachable drop
    icmpv6 type packet-too-big drop
}
`;
const WHOLE = `chain fragments {
    type filter hook prerouting priority -450;
    ip frag-off & 0x3fff != 0 drop
    meta nfproto ipv6 exthdr frag exists drop
}`;

// Counts what the router forwards of more than so many bytes of UDP payload.
const counting = (bytes) => `counter large {}
chain sizes {
    type filter hook forward priority 10;
    udp length > ${bytes + UDP} counter name large
}`;

async function large(site) {
    const text = await site.router.run('nft list counter inet sizes large');
    return Number(/packets (\d+)/.exec(text)[1]);
}

// Between two sites whose links have these MTUs; the device is at the first.
async function between(t, { family = 4, lan = 1500, wan = lan, extra = '', size = 3e6, rate, options = [], over }) {
    const net = await Internet.create(t);
    // The PeerServer's TCP does not look for its way here.
    const open = { nat: 'none', families: [family], forward: ['tcp flags syn tcp option maxseg size set 1000'] };
    const sites = [await net.site(open), await net.site(open)];
    const hosts = [await net.host('a', sites[0]), await net.host('b', sites[1])];
    for (const i of [0, 1]) await resize(net, sites[i], hosts[i], lan, wan);
    for (const site of sites) await site.router.nft(`table inet sizes {\n${counting(over)}\n${extra}\n}`);
    if (extra) await net.core.nft(`table inet sizes {\n${extra}\n}`);
    if (rate) await sites[1].limit(rate);
    await net.peerServer(family);
    await net.device(hosts[0], options, size);
    return { net, sites, hosts, download: await net.get(hosts[1]) };
}

// Of the packets that carry more than `over` bytes of UDP payload there are at least `least` and at most `most`.
const cases = [
    { name: 'links of 1,280 bytes, IPv6', family: 6, lan: 1280, over: 1280 - IP[6] - UDP, most: 0 },
    { name: 'links of 1,500 bytes', over: 1400, least: 200 },
    { name: 'links of 9,000 bytes', lan: 9000, over: 8000, least: 100 },
    { name: '1,300 bytes in the middle of 9,000', lan: 9000, wan: 1300, over: 1300 - IP[4] - UDP, most: 0 },
    { name: 'as large as --mtu says', lan: 9000, options: ['--mtu', '1300'], over: 1300, most: 20 },
    // Six seconds pass until the second size that is lost has been tried three times.
    { name: '1,400 bytes, and no ICMP', wan: 1400, extra: SILENT, size: 11e6, rate: '10mbit', over: 1300, least: 200 },
    { name: '1,300 bytes, no ICMP and no fragments', lan: 9000, wan: 1300, extra: SILENT + WHOLE, over: 1300 - IP[4] - UDP, most: 0 },
    { name: '1,300 bytes, no ICMP and no fragments, IPv6', family: 6, wan: 1300, extra: SILENT + WHOLE, over: 1300 - IP[6] - UDP, most: 0 },
];

describe('a file is fetched', { concurrency: 4 }, () => {
    for (const { name, least = 0, most = Infinity, ...way } of cases) {
        test(name, limits, async (t) => {
            const { sites, download } = await between(t, way);
            await download.finished();
            const count = await large(sites[1]);
            t.diagnostic(`${count} of more than ${way.over} bytes`);
            assert.ok(count >= least && count <= most, `${count} of more than ${way.over} bytes`);
        });
    }

    test('1,500 bytes become 1,300 on the way', limits, async (t) => {
        const { net, sites, hosts, download } = await between(t, { extra: SILENT, size: 10e6, rate: '40mbit', over: 1400 });
        await download.goesOn();
        const before = await large(sites[1]);
        for (const i of [0, 1]) await resize(net, sites[i], hosts[i], 1500, 1300);
        await download.finished();
        assert.ok(before >= 200, `${before} were large`);
    });
});
