// What a DataConnection of PeerJS can be beside binary ones, and say: MsgPack, metadata, limits, the old name of raw.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pack, unpack } from 'peerjs-js-binarypack';
import { patternDigest } from './lib/pattern.mjs';
import { SERVERS } from './lib/servers.mjs';
import { BROWSERS, MEETINGS, parse, PeerDriver, root, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
const browsers = {};
const servers = {}; // by whose they are
const drivers = {};

const hex = (value) => Buffer.from(pack(value)).toString('hex');
const value = (text) => {
    const bytes = Buffer.from(text, 'hex');
    return unpack(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
};

before(async () => {
    for (const [whose, start] of Object.entries(SERVERS)) {
        servers[whose] = await start(world);
        await world.rpcDemo(servers[whose], 'demo');
        drivers[whose] = await PeerDriver.start(world, servers[whose]);
    }
    for (const name of BROWSERS) ({ browser: browsers[name] } = await world.browser(name));
});
after(() => world.close());

// PeerJS's serializer for MessagePack is a module of its own.
async function addMsgPack(page, version) {
    const source = await readFile(join(root, `tests/interop/node_modules/peerjs-${version}/dist/serializer.msgpack.mjs`), 'utf8');
    await page.evaluate(async (source) => {
        const { MsgPack } = await import(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })));
        client.peer._serializers.MsgPack = MsgPack;
    }, source);
}

for (const [name, version, whose, thorough] of MEETINGS) {
    describe(`${name}, PeerJS ${version}, the PeerServer of ${whose}`, () => {
        let page, peer, server, driver;
        before(async () => {
            [server, driver] = [servers[whose], drivers[whose]];
            page = await world.page(browsers[name], version, server);
            peer = await page.evaluate(() => client.open({ storage: true }));
            await addMsgPack(page, version);
        });
        after(() => page?.close());

        const open = (fields = {}) => driver.call('open', { peer, serialization: 'binary', ...fields });
        const accepted = () => page.evaluate(async () => {
            const { conn } = client.connections[await client.accept()];
            const { label, metadata, reliable, serialization } = conn;
            return { label, metadata, reliable, serialization };
        });
        const closed = () => within(10000, "the page's close event", page.evaluate(() => client.connections.at(-1).closed));

        test('metadata of every kind', limit, async () => {
            const deep = Array.from({ length: 100 }).reduce((inner) => [inner], 'deep');
            for (const metadata of [0, -1.5, false, true, '', 'é\u0000"\\\n😀', [], {}, { a: [1, null, { é: 'x' }] }, deep, 'x'.repeat(30000)]) {
                const { conn } = await open({ metadata });
                assert.deepEqual((await accepted()).metadata, metadata);
                await driver.call('close', { conn });
            }
            const { conn } = await open();
            const { label, metadata } = await accepted();
            assert.equal(metadata ?? null, null);
            assert.match(label, /^dc_/);
            await driver.call('close', { conn });
        });

        test('a page with metadata of every kind is answered', limit, async () => {
            const echoes = await page.evaluate(async () => {
                const deep = Array.from({ length: 400 }).reduce((inner) => [inner], 'deep');
                const echoes = [];
                for (const metadata of [0, '', 'é\u0000"', { a: [1, null] }, deep, 'x'.repeat(30000)]) {
                    const connection = client.connections[await client.connect('demo', { metadata, label: 'a "label" é' })];
                    echoes.push((await connection.request('echo', 1)).data);
                    connection.conn.close();
                }
                return echoes;
            });
            assert.deepEqual(echoes, [1, 1, 1, 1, 1, 1]);
        });

        test('"none" is raw, "binary-utf8" is binary', limit, async () => {
            for (const [serialization, told] of [['none', 'raw'], ['binary-utf8', 'binary']]) {
                const { conn } = await open({ serialization });
                assert.equal((await accepted()).serialization, told);
                await driver.call('close', { conn });
            }
        });

        if (!thorough) return;

        test('a page calls with MsgPack', limit, async () => {
            const result = await page.evaluate(async () => {
                const connection = client.connections[await client.connect('demo', { serialization: 'MsgPack' })];
                const values = [
                    ...[0, 127, 128, 65535, 65536, 2 ** 32, 2 ** 53 - 1, -1, -32, -33, -129, -32769, -(2 ** 31) - 1, -(2 ** 53) + 1],
                    ...[0.5, 1e300, -1e-300, 2 ** 60, Infinity, true, false, '', 'é€😀\u0000', 'x'.repeat(31), 'x'.repeat(32), 'x'.repeat(300), 'y'.repeat(70000)],
                    ...[new Uint8Array(0), client.pattern(300, 1), client.pattern(70000, 2), client.pattern(3000000, 3)],
                    ...[[], [1, null, [true]], {}, { a: { b: [] }, é: null }, Array(20).fill('z'), Array(70000).fill(7)],
                ];
                const wrong = [];
                for (const value of values) {
                    connection.send(value);
                    const [want, have] = [value, await connection.next()].map((item) => JSON.stringify(client.describe(item)));
                    if (want !== have) wrong.push(`${want.slice(0, 200)} came back as ${have.slice(0, 200)}`);
                }
                connection.send(new Date(1732538096789));
                const date = await connection.next();
                const echo = (await connection.request('echo', { a: [1, -1.5] })).data;
                const down = client.bytesOf((await connection.request('bytes', { size: 1000000, seed: 4 })).data);
                const stream = await connection.stream('file', { size: 5000000, seed: 5, chunk: 50000 });
                connection.conn.close({ flush: true });
                await connection.closed;
                return { wrong, date, echo, down: { length: down.length, sha256: await client.sha256(down) }, stream };
            });
            assert.deepEqual(result, {
                wrong: [],
                date: 1732538096789,
                echo: { a: [1, -1.5] },
                down: patternDigest(1000000, 4),
                stream: patternDigest(5000000, 5),
            });
        });

        test('we call with MsgPack', limit, async () => {
            const { conn } = await open({ serialization: 'MsgPack', label: 'é', metadata: 5 });
            assert.deepEqual(await accepted(), { label: 'é', metadata: 5, reliable: true, serialization: 'MsgPack' });
            for (const item of [5, 'é', [1, { a: null }], { a: -(2 ** 31) }, 'z'.repeat(100000)]) {
                await driver.call('send', { conn, value: hex(item) });
                assert.deepEqual(value((await driver.call('recv', { conn, timeout: 10000 })).value), item);
            }
            const { response } = await driver.call('upload', { conn, action: 'digest', len: 1000000, seed: 9 });
            assert.deepEqual(value(response).body.data, patternDigest(1000000, 9));
            const got = await driver.call('stream', { conn, action: 'file', body: hex({ size: 3000000, seed: 4, chunk: 16384 }) });
            assert.deepEqual({ length: got.length, sha256: got.sha256 }, patternDigest(3000000, 4));
            await driver.call('close', { conn, flush: true });
            await closed();
        });

        for (const flush of [false, true]) {
            test(`the page closes MsgPack${flush ? ' by asking us to' : ''}`, limit, async () => {
                const { conn } = await open({ serialization: 'MsgPack' });
                await accepted();
                await page.evaluate((flush) => client.connections.at(-1).conn.close({ flush }), flush);
                await driver.call('waitclose', { conn, timeout: 10000 });
            });
        }

        test('the longest JSON that PeerJS sends goes both ways, and no longer one', limit, async () => {
            const { conn } = await open({ serialization: 'json' });
            await accepted();
            const longest = 'x'.repeat(16299 - 2);
            await driver.call('send', { conn, json: longest });
            assert.equal((await driver.call('recv', { conn, timeout: 10000 })).json, longest);
            await assert.rejects(driver.call('send', { conn, json: `${longest}x` }), /message-too-big/);
            await driver.call('send', { conn, json: '\n\t"é'.repeat(100) });
            assert.equal((await driver.call('recv', { conn, timeout: 10000 })).json, '\n\t"é'.repeat(100));
            await driver.call('close', { conn });
        });

        test('a request too long for JSON is refused on both sides, and the connection stays', limit, async () => {
            const { conn } = await open({ serialization: 'json' });
            await accepted();
            await assert.rejects(driver.call('request', { conn, action: 'echo', body: hex('x'.repeat(16300)) }), /message-too-big/);
            const short = await driver.call('request', { conn, action: 'echo', body: hex('x'.repeat(8000)) });
            assert.equal(value(short.response).body.data.length, 8000);
            await driver.call('close', { conn });
            const result = await page.evaluate(async () => {
                const connection = client.connections[await client.connect('demo', { serialization: 'json' })];
                const error = new Promise((resolve) => connection.conn.once('error', ({ type }) => resolve(type)));
                connection.request('echo', 'x'.repeat(16300)).catch(() => {});
                const result = { type: await error, echo: (await connection.request('echo', 'x'.repeat(8000))).data.length };
                // It fits, but the answer, which has it twice, does not; nor do bytes, as a stream.
                result.long = (await connection.request('echo', 'x'.repeat(12000))).code;
                result.stream = (await connection.request('file', { size: 10, seed: 1, chunk: 10 })).code;
                connection.conn.close();
                return result;
            });
            assert.deepEqual(result, { type: 'message-too-big', echo: 8000, long: 500, stream: 500 });
        });

        test('MsgPack and the key __proto__: we read it, and do not send it', limit, async () => {
            const { conn } = await open({ serialization: 'MsgPack' });
            await accepted();
            await page.evaluate(() => client.connections.at(-1).send(JSON.parse('[{"__proto__":1}]')));
            const proto = (await driver.call('recv', { conn, timeout: 10000 })).value;
            assert.equal(proto, '9181b95f5f70726f746f5f5f01');
            await assert.rejects(driver.call('send', { conn, value: proto }), /argument/);
            await driver.call('send', { conn, value: hex('after') });
            assert.equal(value((await driver.call('recv', { conn, timeout: 10000 })).value), 'after');
            await driver.call('close', { conn });
            const codes = await page.evaluate(async () => {
                const connection = client.connections[await client.connect('demo', { serialization: 'MsgPack' })];
                const proto = JSON.parse('{"__proto__":1,"size":10,"seed":1,"chunk":10}');
                const codes = [];
                for (const action of ['echo', 'file', 'nothing']) codes.push((await connection.request(action, proto)).code);
                codes.push((await connection.request('echo', 1)).code);
                connection.conn.close();
                return codes;
            });
            assert.deepEqual(codes, [500, 500, 500, 200]);
        });

        test('what that key does to PeerJS: its reader ends', limit, async () => {
            const other = await world.page(browsers[name], version, server);
            const id = await other.evaluate(() => client.open());
            await addMsgPack(other, version);
            await page.evaluate((id) => client.connect(id, { serialization: 'MsgPack' }), id);
            await other.evaluate(async () => {
                const { conn } = client.connections[await client.accept()];
                window.ended = new Promise((resolve) => addEventListener('unhandledrejection', ({ reason }) => resolve(String(reason))));
                window.last = new Promise((resolve) => {
                    let count = 0;
                    conn.dataChannel.addEventListener('message', () => ++count === 3 && resolve());
                });
            });
            await page.evaluate(() => ['before', JSON.parse('{"__proto__":1}')].map((value) => client.connections.at(-1).send(value)));
            assert.match(await within(10000, 'the end of the reader', other.evaluate(() => ended)), /__proto__/);
            await page.evaluate(() => client.connections.at(-1).send('after'));
            const left = await other.evaluate(async () => {
                await last;
                await new Promise((resolve) => setTimeout(resolve)); // what is read is read in microtasks
                const { conn, inbox } = client.connections.at(-1);
                return { open: conn.open, inbox };
            });
            assert.deepEqual(left, { open: true, inbox: ['before'] });
            await other.close();
        });

        test('several connections at once, and a queue larger than the channel takes', limit, async () => {
            const conns = [];
            for (let i = 0; i < 4; i++) {
                conns.push((await open({ label: `l${i}`, reliable: true })).conn);
                assert.equal((await accepted()).label, `l${i}`);
            }
            await Promise.all(conns.map(async (conn, index) => {
                const texts = Array.from({ length: 10 }, (_, i) => `${index}.${i}.`.repeat(100000));
                const sent = texts.map((text) => driver.call('send', { conn, value: hex(text) }));
                for (const text of texts) assert.equal(value((await driver.call('recv', { conn, timeout: 30000 })).value), text);
                await Promise.all(sent);
                await driver.call('close', { conn });
            }));
        });
    });
}

for (const [whose, start] of Object.entries(SERVERS)) {
    test(`the list of peers, the PeerServer of ${whose}`, limit, async () => {
        const server = await start(world, { allow_discovery: true });
        await world.rpcDemo(server, 'a-listed-one');
        const other = await PeerDriver.start(world, server);
        const own = parse(other.program.lines[0]).peer;
        assert.deepEqual((await other.call('peers')).peers.sort(), [own, 'a-listed-one'].sort());
        await assert.rejects(drivers[whose].call('peers')); // one that does not tell
    });
}
