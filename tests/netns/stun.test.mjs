// Our own STUN server: `datapeer signal --stun` in the middle of the internet, and those who ask it from behind NATs. No third
// party's program has a part in the ways that are found.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CHROMIUM } from '../interop/lib/world.mjs';
import { CORE, Internet, limits, STUN } from './lib/internet.mjs';

const script = (name) => fileURLToPath(new URL(`lib/${name}`, import.meta.url));
const hidden = { nat: 'restricted', families: [4] };
const WAN = ['198.51.100.6', '198.51.100.10']; // of the first two sites' routers
const UPLINK = { 4: '198.51.100.5', 6: '2001:db8:ff:1::1' }; // other addresses of the core

async function behindNat(t, site) {
    const net = await Internet.create(t);
    const host = await net.host('a', await net.site(site));
    await net.ownServer();
    return { net, host };
}

describe('our own STUN server', { concurrency: 2 }, () => {
    test('brings a device and one who gets together, both behind NATs', limits, async (t) => {
        const { net, host } = await behindNat(t, hidden);
        const there = await net.host('b', await net.site(hidden));
        const options = ['--ice-server', STUN];
        await net.device(host, options);
        const download = await net.get(there, options);
        await download.finished();
        assert.match(download.way, new RegExp(`-> ${WAN[0]}:`), download.story);
        assert.ok((await net.counter('datapeer_stun_answered_total')) >= 2);
    });

    test('and without it those two find no way', limits, async (t) => {
        const { net, host } = await behindNat(t, hidden);
        const there = await net.host('b', await net.site(hidden));
        await net.device(host);
        assert.equal(await (await net.get(there)).failed(), 3);
    });

    test('is part of a device that needs nobody else', limits, async (t) => {
        const net = await Internet.create(t);
        const device = await net.host('a', await net.site({ nat: 'none', families: [4] }));
        const there = await net.host('b', await net.site(hidden));
        await net.device(device, ['--host', '0.0.0.0', '--metrics', '--stun']);
        net.server = 'ws://10.0.1.2:9000/';
        await (await net.get(there, ['--ice-server', 'stun:10.0.1.2'])).finished();
        assert.ok((await net.counter('datapeer_stun_answered_total', device, 9000)) >= 1);
    });

    test('answers from the address that was asked, to the one that asked', limits, async (t) => {
        const { net, host } = await behindNat(t, {});
        const asked = [CORE[4], UPLINK[4], CORE[6], UPLINK[6]];
        const probe = await host.started(process.execPath, [script('stun-probe.mjs'), ...asked], { ready: (line) => line.startsWith('[') });
        const mapped = (address) => (address.includes(':') ? '2001:db8:1::2' : WAN[0]); // no NAT for IPv6
        assert.deepEqual(JSON.parse(probe.lines.at(-1)), asked.map((address) => ({ asked: address, from: address, mapped: mapped(address) })));
        assert.equal(await net.counter('datapeer_stun_dropped_total'), 0);
    });

    test("tells coturn's client its address", limits, async (t) => {
        const { host } = await behindNat(t, hidden);
        const client = await host.started('/usr/bin/turnutils_stunclient', [CORE[4]], { ready: (line) => line.includes('reflexive addr') });
        assert.match(client.lines.join('\n'), new RegExp(`UDP reflexive addr: ${WAN[0]}:\\d+`));
    });

    for (const [name, path] of [['chromium', CHROMIUM], ['firefox', '/usr/bin/firefox-esr']]) {
        const skip = limits.skip || (existsSync(path) ? false : `there is no ${path}: run scripts/deps`);
        test(`gives ${name} its server-reflexive candidate`, { ...limits, skip }, async (t) => {
            const { net, host } = await behindNat(t, hidden);
            const browser = host.start(process.execPath, [script('browser-gathers.mjs'), name, STUN]);
            const candidates = JSON.parse(await browser.waitLine((line) => line.startsWith('['), 100000)); // it has to start first
            assert.ok(candidates.some((line) => line.includes(` ${WAN[0]} `) && line.includes(' typ srflx ')), candidates.join('\n'));
            assert.ok((await net.counter('datapeer_stun_answered_total')) >= 1);
            assert.equal(await net.counter('datapeer_stun_refused_total'), 0);
        });
    }
});
