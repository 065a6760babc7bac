// Both browsers in both DTLS roles: the caller offers setup:actpass, and the other side, which answers active, is the DTLS client.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { pack, unpack } from 'peerjs-js-binarypack';
import { patternDigest } from './lib/pattern.mjs';
import { BROWSERS, PeerDriver, VERSIONS, World } from './lib/world.mjs';

const MB = 1e6;
const world = new World();
const limit = { timeout: 60000 };
let server, driver;

before(async () => {
    server = await world.peerServer();
    await world.rpcDemo(server, 'demo');
    driver = await PeerDriver.start(world, server);
});
after(() => world.close());

// What the page's newest connection says of its DTLS, for a browser in the given role.
async function assertTransport(page, role) {
    const { transport, setup } = await page.evaluate(async () => {
        const { peerConnection } = client.connections.at(-1).conn;
        const stats = [...(await peerConnection.getStats()).values()];
        const { dtlsState, dtlsRole, tlsVersion, dtlsCipher, srtpCipher } = stats.find(({ type }) => type === 'transport');
        const setup = ['localDescription', 'remoteDescription'].map((which) => /^a=setup:(\w+)/m.exec(peerConnection[which].sdp)[1]);
        return { transport: { dtlsState, dtlsRole, tlsVersion, dtlsCipher, srtpCipher }, setup };
    });
    assert.deepEqual(transport, {
        dtlsState: 'connected',
        dtlsRole: role,
        tlsVersion: 'FEFD', // DTLS 1.2
        dtlsCipher: 'TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256',
        srtpCipher: 'SRTP_AES128_CM_HMAC_SHA1_80',
    });
    assert.deepEqual(setup, role === 'client' ? ['active', 'actpass'] : ['actpass', 'active']);
}

for (const name of BROWSERS) {
    describe(name, () => {
        let browser;
        before(async () => ({ browser } = await world.browser(name)));

        for (const version of VERSIONS) {
            test(`PeerJS ${version} calls: the browser is the DTLS server`, limit, async () => {
                const page = await world.page(browser, version, server);
                const got = await page.evaluate(async (size) => {
                    await client.open();
                    const connection = client.connections[await client.connect('demo', { reliable: true })];
                    const { data } = await connection.request('digest', { data: client.pattern(size, 1) });
                    return { up: data, down: await connection.stream('file', { size, seed: 2, chunk: 50000 }) };
                }, MB);
                assert.deepEqual(got, { up: patternDigest(MB, 1), down: patternDigest(MB, 2) });
                await assertTransport(page, 'server');
                await page.context().close();
            });

            test(`PeerJS ${version} is called: the browser is the DTLS client`, limit, async () => {
                const page = await world.page(browser, version, server);
                const peer = await page.evaluate(() => client.open({ storage: true }));
                const { conn } = await driver.call('open', { peer, serialization: 'binary', reliable: true });
                const body = Buffer.from(pack({ size: MB, seed: 3, chunk: 16384 })).toString('hex');
                const { length, sha256 } = await driver.call('stream', { conn, action: 'file', body });
                assert.deepEqual({ length, sha256 }, patternDigest(MB, 3));
                const { response } = await driver.call('upload', { conn, action: 'digest', len: MB, seed: 4 });
                assert.deepEqual(unpack(Uint8Array.from(Buffer.from(response, 'hex')).buffer).body.data, patternDigest(MB, 4));
                await assertTransport(page, 'client');
                await driver.call('close', { conn });
                await page.context().close();
            });
        }
    });
}
