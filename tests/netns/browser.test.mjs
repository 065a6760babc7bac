// Chromium with PeerJS at one host, `datapeer serve` at another on the same link. Chromium hides its addresses, as everywhere.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { CHROMIUM, root, VERSIONS, within } from '../interop/lib/world.mjs';
import { sha256 } from '../interop/lib/pattern.mjs';
import { CORE, DEVICE, Internet, limits } from './lib/internet.mjs';

const skip = limits.skip || (existsSync(CHROMIUM) ? false : `there is no ${CHROMIUM}: run scripts/deps`);
const limit = { ...limits, skip };
const ORIGIN = 'http://localhost'; // nobody is there: what is asked for is answered by the test
const pages = join(root, 'tests/interop');
const HIDDEN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.local$/;
const VERSION = VERSIONS.at(-1);

// Chromium on host, with the interop tests' page.
async function openPage(net, host) {
    const launcher = join(await net.temporaryFolder(), 'chromium');
    await writeFile(launcher, `#!/bin/sh\nexec ip netns exec ${host.name} ${CHROMIUM} "$@"\n`, { mode: 0o755 });
    const { browser } = await net.chromium(launcher);
    const page = await browser.newPage();
    await page.route(`${ORIGIN}/**`, (route) => {
        const name = new URL(route.request().url()).pathname.slice(1);
        const path = name.startsWith('peerjs-') ? `node_modules/peerjs-${VERSION}/dist/peerjs.min.js` : `page/${name}`;
        return route.fulfill({ path: join(pages, path) });
    });
    await page.goto(`${ORIGIN}/index.html?peerjs=${VERSION}&host=${CORE[4]}&port=80`);
    await page.waitForFunction(() => window.client);
    return page;
}

// A device and a page that has fetched its file. Of UDP, their hosts let mDNS in, and of the rest what is not said by dropped, in words
// of nftables. Returns the candidates that each told, the page's pair of them, and the device.
async function fetched(t, dropped, options) {
    const net = await Internet.create(t);
    const home = await net.site();
    const hosts = [await net.host('a', home), await net.host('b', home)];
    for (const host of hosts) {
        await host.nft(`table inet own {
            chain incoming { type filter hook input priority 0; iifname "eth0" udp dport != 5353 ${dropped} drop; }
        }`);
    }
    await net.peerServer();
    await net.device(hosts[0], ['-v', ...options]); // the third -v tells what came of the names
    const page = await openPage(net, hosts[1]);
    const fetching = page.evaluate(fetchFile, { id: DEVICE, length: net.content.length });
    const { file, descriptions, way } = await within(30000, 'the file', fetching).catch((error) => {
        assert.fail(`${error.message}\nthe device:\n${net.served.errors}`);
    });
    assert.deepEqual(file, { length: net.content.length, sha256: sha256(net.content) });
    const told = { page: candidates(descriptions.page), device: candidates(descriptions.device) };
    return { told, way, device: net.served };
}

// Runs in the page.
async function fetchFile({ id, length }) {
    await client.open();
    const connection = client.connections[await client.connect(id, { reliable: true })];
    const file = await connection.stream('fs.read', { path: 'file', offset: 0, length });
    const { localDescription, remoteDescription } = connection.conn.peerConnection;
    const stats = await connection.conn.peerConnection.getStats();
    const transport = [...stats.values()].find(({ type }) => type === 'transport');
    const pair = stats.get(transport.selectedCandidatePairId);
    const way = { from: stats.get(pair.localCandidateId), to: stats.get(pair.remoteCandidateId) };
    return { file, descriptions: { page: localDescription.sdp, device: remoteDescription.sdp }, way };
}

const candidates = (sdp) => {
    const found = sdp.matchAll(/^a=candidate:\S+ 1 (\S+) \d+ (\S+) (\d+) typ (.*)/gm);
    return Array.from(found, ([, protocol, address, port, type]) => ({ protocol, address, port: Number(port), type }));
};

describe('Chromium', { concurrency: 2 }, () => {
    test('and a device hide their addresses, and mDNS tells them to each other', limit, async (t) => {
        // Each host lets in only those whom it has called: neither learns the other's address from a check.
        const { told, way, device } = await fetched(t, 'ct state new', ['--hide-addresses']);
        assert.ok(told.page.length > 0 && told.device.length > 0);
        for (const { address } of [...told.page, ...told.device]) assert.match(address, HIDDEN);
        for (const { address } of told.page) await device.waitLine((line) => line.endsWith(`mdns: ${address} has 1 addresses`));
        await device.waitLine((line) => /selected pair: host \S+ -> host /.test(line));
        assert.doesNotMatch(device.lines.join('\n'), /prflx/);
        assert.deepEqual([way.to.protocol, way.to.candidateType], ['udp', 'host']);
    });

    test('reaches a device by TCP where UDP is blocked', limit, async (t) => {
        const { told, way, device } = await fetched(t, '', ['--tcp']);
        const { protocol, address, port, tcpType } = way.to;
        assert.deepEqual([protocol, tcpType], ['tcp', 'passive']);
        const passive = told.device.filter(({ type }) => type.startsWith('host tcptype passive'));
        assert.ok(passive.some((one) => one.address === address && one.port === port), JSON.stringify({ told, way }));
        // The device knows the end that has called only from its check.
        const here = `${isIPv6(address) ? `[${address}]` : address}:${port}`;
        await device.waitLine((line) => line.includes(`selected pair: host ${here} -> prflx `) && line.endsWith(`:${way.from.port}`));
    });
});
