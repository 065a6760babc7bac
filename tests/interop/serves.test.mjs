// Our using side, `datapeer peer`, calls a browser that serves with PeerJS.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { pack, unpack } from 'peerjs-js-binarypack';
import { patternDigest } from './lib/pattern.mjs';
import { SERVERS } from './lib/servers.mjs';
import { BROWSERS, MEETINGS, PeerDriver, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
const hex = (value) => Buffer.from(pack(value)).toString('hex');
const value = (text) => {
    const bytes = Buffer.from(text, 'hex');
    return unpack(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
};
const browsers = {};
const servers = {}; // by whose they are
const drivers = {};

before(async () => {
    for (const name of BROWSERS) ({ browser: browsers[name] } = await world.browser(name));
    for (const whose of Object.keys(SERVERS)) {
        servers[whose] = await SERVERS[whose](world);
        drivers[whose] = await PeerDriver.start(world, servers[whose]);
    }
});
after(() => world.close());

for (const [name, version, whose, thorough] of MEETINGS) {
    describe(`datapeer peer calls ${name}, PeerJS ${version}, the PeerServer of ${whose}`, () => {
        let page, peer, driver;
        before(async () => {
            driver = drivers[whose];
            page = await world.page(browsers[name], version, servers[whose]);
            peer = await page.evaluate(() => client.open({ storage: true }));
        });
        after(() => page?.close());

        const open = (fields = {}) => driver.call('open', { peer, serialization: 'binary', reliable: true, ...fields });
        const accepted = () => page.evaluate(async () => {
            const { conn } = client.connections[await client.accept()];
            const { label, metadata, reliable, serialization, connectionId, dataChannel } = conn;
            return { label, metadata, reliable, serialization, connectionId, ordered: dataChannel.ordered };
        });

        for (const reliable of thorough ? [false, true] : [true]) {
            describe(`reliable: ${reliable}`, () => {
                let conn;
                test('opens, and the page sees the options', limit, async () => {
                    const opened = await open({ reliable, label: 'a label é', metadata: { a: [1, 'é'] } });
                    conn = opened.conn;
                    assert.deepEqual(await accepted(), {
                        label: 'a label é',
                        metadata: { a: [1, 'é'] },
                        reliable,
                        serialization: 'binary',
                        connectionId: opened.connectionId,
                        ordered: reliable,
                    });
                });

                test('requests', limit, async () => {
                    const body = { text: 'é😀', list: [1, -1, 1.5, null, true], big: 2 ** 40 };
                    const echo = await driver.call('request', { conn, action: 'echo', body: hex(body) });
                    assert.match(echo.request_id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
                    assert.deepEqual(value(echo.response).body, { code: 200, data: body, message: '' });
                    const error = await driver.call('request', { conn, action: 'error', body: hex({}) });
                    assert.deepEqual(value(error.response).body, { code: 500, data: null, message: 'boom' });
                    const unknown = await driver.call('request', { conn, action: 'nothing', body: hex({}) });
                    assert.equal(value(unknown.response).body.code, 404);
                });

                test('100 requests at once', limit, async () => {
                    const one = (i) => driver.call('request', { conn, action: 'slow', body: hex({ ms: (i * 37) % 100, value: i }) });
                    const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => one(i)));
                    assert.deepEqual(answers.map(({ response }) => value(response).body.data), Array.from({ length: 100 }, (_, i) => i));
                });

                for (const len of thorough ? [0, 100000, 1000000, 20000000] : [100000]) {
                    test(`an upload of ${len} bytes`, limit, async () => {
                        const { response } = await driver.call('upload', { conn, action: 'digest', len, seed: 9 });
                        assert.deepEqual(value(response).body.data, patternDigest(len, 9));
                    });
                }

                // On an unordered channel the page's own pieces may overtake one another: PeerJS sends them so, and nobody can tell.
                for (const size of !thorough ? [16300] : reliable ? [0, 1, 16300, 1000000, 50000000] : [0, 1]) {
                    test(`a stream of ${size} bytes`, limit, async () => {
                        const body = hex({ size, seed: 4, chunk: 16384 });
                        const got = await driver.call('stream', { conn, action: 'file', body });
                        assert.deepEqual({ length: got.length, sha256: got.sha256 }, patternDigest(size, 4));
                        assert.equal(got.code, 200);
                    });
                }

                test('values that are no requests', limit, async () => {
                    for (const item of [5, 'é', [1, { a: null }], { a: 'b' }]) {
                        await driver.call('send', { conn, value: hex(item) });
                        assert.deepEqual(value((await driver.call('recv', { conn, timeout: 10000 })).value), item);
                    }
                    const large = patternDigest(300000, 1);
                    await page.evaluate(() => client.connections.at(-1).send(client.pattern(300000, 1)));
                    const got = await driver.call('recv', { conn, timeout: 10000 });
                    assert.deepEqual({ length: got.len, sha256: got.sha256 }, large);
                });

                test('we close, and the page hears of it', limit, async () => {
                    await driver.call('close', { conn });
                    await within(10000, "the page's close event", page.evaluate(() => client.connections.at(-1).closed));
                });
            });
        }

        test('json and raw', limit, async () => {
            const json = await open({ serialization: 'json' });
            await accepted();
            await driver.call('send', { conn: json.conn, json: { a: [1, 'é', null] } });
            assert.deepEqual((await driver.call('recv', { conn: json.conn, timeout: 10000 })).json, { a: [1, 'é', null] });
            await driver.call('close', { conn: json.conn });
            const raw = await open({ serialization: 'raw' });
            await accepted();
            for (const item of [{ text: 'text é' }, { bytes: '00ff10' }, { text: '' }]) {
                await driver.call('send', { conn: raw.conn, ...item });
                const { text, bytes } = await driver.call('recv', { conn: raw.conn, timeout: 10000 });
                assert.deepEqual(JSON.parse(JSON.stringify({ text, bytes })), item);
            }
            await driver.call('close', { conn: raw.conn });
        });

        test('we ask the page to close, behind all that is queued', limit, async () => {
            const { conn } = await open();
            await accepted();
            await driver.call('close', { conn, flush: true });
            await within(10000, "the page's close event", page.evaluate(() => client.connections.at(-1).closed));
        });

        for (const flush of [false, true]) {
            test(`the page closes${flush ? ' by asking us to' : ''}, and we hear of it`, limit, async () => {
                const { conn } = await open();
                await accepted();
                await page.evaluate((flush) => client.connections.at(-1).conn.close({ flush }), flush);
                await driver.call('waitclose', { conn, timeout: 10000 });
            });
        }

        test('a request that is under way ends with an error when the page closes', limit, async () => {
            const { conn } = await open();
            await accepted();
            const slow = driver.call('request', { conn, action: 'slow', body: hex({ ms: 60000, value: 1 }) });
            const failed = assert.rejects(slow);
            await driver.call('request', { conn, action: 'close', body: hex({}) });
            await within(10000, 'the error', failed);
        });
    });
}

for (const whose of Object.keys(SERVERS)) {
    test(`a peer that does not exist is an error; it quits (the PeerServer of ${whose})`, limit, async () => {
        const driver = drivers[whose];
        await assert.rejects(driver.call('open', { peer: 'nobody-is-here', serialization: 'binary', reliable: true }));
        driver.program.write({ id: 0, op: 'quit' });
        assert.equal((await within(10000, 'the end of datapeer peer', driver.program.exited)).code, 0);
    });
}
