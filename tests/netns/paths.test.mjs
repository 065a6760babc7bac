// Two places on the internet find a way to each other: `datapeer serve` at the one, `datapeer get` at the other.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Internet, limits, STUN } from './lib/internet.mjs';

const cases = [
    { name: 'no NAT', sites: [{ nat: 'none' }, { nat: 'none' }] },
    { name: 'one NAT, before the one who gets', sites: [{ nat: 'none' }, {}] },
    { name: 'one NAT, before the device', sites: [{}, { nat: 'none' }] },
    { name: 'two NATs that keep the port', stun: true, sites: [{ families: [4] }, { families: [4] }] },
    { name: 'a symmetric NAT, and one with one port for all', stun: true, sites: [{ nat: 'symmetric', families: [4] }, { nat: 'eim', families: [4] }] },
    { name: 'one with one port for all, and a symmetric NAT', stun: true, sites: [{ nat: 'eim', families: [4] }, { nat: 'symmetric', families: [4] }] },
    { name: 'IPv6 only, two firewalls', sites: [{ nat: 'firewall', families: [6] }, { nat: 'firewall', families: [6] }], server: 6 },
    // Both ends believe that they have both families.
    { name: 'IPv6 swallowed on the way', stun: true, sites: [{ forward: ['meta nfproto ipv6 drop'] }, {}] },
    { name: 'IPv4 swallowed on the way', stun: true, sites: [{}, { forward: ['meta nfproto ipv4 drop'] }], server: 6 },
];

describe('a file is fetched', { concurrency: 3 }, () => {
    for (const { name, sites, stun, server } of cases) {
        test(name, limits, async (t) => {
            const net = await Internet.create(t);
            const here = await net.host('a', await net.site(sites[0]));
            const there = await net.host('b', await net.site(sites[1]));
            await net.peerServer(server);
            if (stun) await net.coturn();
            const options = stun ? ['--ice-server', STUN] : [];
            await net.device(here, options);
            const download = await net.get(there, options);
            await download.finished();
        });
    }

    test('from a device that only answers (ICE-lite)', limits, async (t) => {
        const net = await Internet.create(t);
        const here = await net.host('a', await net.site({ nat: 'none' }));
        const there = await net.host('b', await net.site());
        await net.peerServer();
        await net.device(here, ['--lite']);
        await (await net.get(there)).finished();
    });
});

describe('two hosts on one link hide their addresses', { concurrency: 2 }, () => {
    async function neighbours(t) {
        const net = await Internet.create(t);
        const home = await net.site();
        const hosts = [await net.host('a', home), await net.host('b', home)];
        await net.peerServer();
        await net.device(hosts[0], ['--hide-addresses']);
        return { net, hosts };
    }

    test('mDNS tells them to each other', limits, async (t) => {
        const { net, hosts } = await neighbours(t);
        await (await net.get(hosts[1], ['--hide-addresses'])).finished();
    });

    test('without mDNS they find no way', limits, async (t) => {
        const { net, hosts } = await neighbours(t);
        await hosts[1].nft(`table inet own {
            chain incoming { type filter hook input priority 0; udp dport 5353 drop; }
            chain outgoing { type filter hook output priority 0; udp dport 5353 drop; }
        }`);
        const download = await net.get(hosts[1], ['--hide-addresses']);
        assert.equal(await download.failed(), 3);
        assert.match(download.log, /no network path/);
    });
});
