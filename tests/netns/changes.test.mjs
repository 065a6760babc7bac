// The network changes in the middle of a download, which goes on.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { until } from '../interop/lib/world.mjs';
import { CORE, Internet, limits, STUN, USER } from './lib/internet.mjs';

// Ten seconds of download.
const SIZE = 50e6;
const RATE = '40mbit';

// Resolves in the middle of the download. The one who gets is at the sites from the second on.
async function midway(t, sites, options = []) {
    const net = await Internet.create(t);
    const [home, ...there] = await Promise.all(sites.map((site) => net.site(site)));
    const [a, host] = [await net.host('a', home), await net.host('b', ...there)];
    for (const site of there) await site.limit(RATE);
    await net.peerServer();
    const turnserver = await net.coturn();
    await net.device(a, options, SIZE);
    const download = await net.get(host, options);
    await download.goesOn();
    return { net, host, site: there[0], download, turnserver };
}

const open = { nat: 'none', families: [4] };
const closed = { nat: 'restricted', families: [4] };

// Resolves when the file is there; says how long no data came after the change.
async function survived(t, download) {
    const changed = Date.now();
    await download.goesOn();
    t.diagnostic(`the download goes on after ${((Date.now() - changed) / 1000).toFixed(1)} s`);
    await download.finished();
}

describe('in the middle of a download', { concurrency: 7 }, () => {
    test('the NAT gets another address; the device is open', limits, async (t) => {
        const { site, download } = await midway(t, [open, closed]);
        await site.renumber();
        await survived(t, download);
    });

    test('the NAT gets another address; the device is behind one, too', limits, async (t) => {
        const { site, download } = await midway(t, [closed, closed], ['--ice-server', STUN]);
        await site.renumber();
        await survived(t, download);
    });

    test('a symmetric NAT restarts and takes another port', limits, async (t) => {
        const sites = [{ nat: 'eim', families: [4] }, { nat: 'symmetric', families: [4] }];
        const { site, download } = await midway(t, sites, ['--ice-server', STUN]);
        await site.restart();
        await survived(t, download);
    });

    test('the cable is out for ten seconds', limits, async (t) => {
        const { site, download } = await midway(t, [closed, closed], ['--ice-server', STUN]);
        await site.router.run('ip link set port1 down');
        await pause(10000);
        await site.router.run('ip link set port1 up');
        await survived(t, download);
    });

    test('one of two networks is left; the device is open', limits, async (t) => {
        const { host, download } = await midway(t, [open, closed, closed]);
        await host.run('ip link delete eth0');
        await survived(t, download);
        assert.match(download.way, /^10\.0\.3\.2:/);
    });

    test('one of two networks is left; the device is behind a NAT', limits, async (t) => {
        const { host, download } = await midway(t, [closed, closed, closed], ['--ice-server', STUN]);
        await host.run('ip link set eth0 down');
        await survived(t, download);
        assert.match(download.way, /^10\.0\.3\.2:/);
    });

    test('the relay dies, and it was the only way', limits, async (t) => {
        const relay = ['--ice-server', `turn:${CORE[4]}`, '--turn-user', USER, '--relay-only'];
        const { download, turnserver } = await midway(t, [closed, closed], relay);
        turnserver.child.kill('SIGKILL');
        assert.equal(await download.failed(60000), 3);
        assert.match(download.log, /^datapeer: /m);
    });
});

describe('without a network for twenty seconds, the device keeps its id', { concurrency: 4 }, () => {
    async function away(t, server, leave) {
        const net = await Internet.create(t);
        const [home, there] = [await net.site(closed), await net.site(open)];
        const [device, host] = [await net.host('a', home), await net.host('b', there)];
        await net[server]();
        await net.device(device);
        // What goes to a stream that nobody reads any more is lost, so one try may be in vain.
        const found = async () => {
            const download = await net.get(host);
            return download.finished(8000).then(() => true, async () => {
                await download.program.stop();
                return false;
            });
        };
        assert.ok(await found());
        await leave(home, device);
        await until(40000, 'the device back', found);
        return net.served.lines.filter((line) => line.startsWith('serving ')).length; // each time that it is at the PeerServer
    }

    for (const [whose, server] of [['npm', 'peerServer'], ['datapeer', 'ownServer']]) {
        test(`somewhere on the way, and nobody notices: TCP carries on; the PeerServer of ${whose}`, limits, async (t) => {
            const times = await away(t, server, async ({ router }) => {
                await router.run('nft add table inet cut', "nft 'add chain inet cut forwarded { type filter hook forward priority -10; policy drop; }'");
                await pause(20000);
                await router.run('nft delete table inet cut');
            });
            assert.equal(times, 1);
        });

        test(`the device notices, and comes back while the PeerServer of ${whose} still has its old stream`, limits, async (t) => {
            assert.equal(await away(t, server, (home, device) => home.without(device, () => pause(20000))), 2);
        });
    }
});
