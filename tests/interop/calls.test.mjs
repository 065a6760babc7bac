// A browser with PeerJS calls our storage side, examples/rpc_demo.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { patternDigest } from './lib/pattern.mjs';
import { SERVERS } from './lib/servers.mjs';
import { BROWSERS, MEETINGS, within, World } from './lib/world.mjs';

const KB = 1000;
const MB = 1000 * KB;
const world = new World();
const limit = { timeout: 60000 };
const browsers = {};
const servers = {}; // by whose they are
const demos = {};

before(async () => {
    for (const whose of Object.keys(SERVERS)) {
        servers[whose] = await SERVERS[whose](world);
        demos[whose] = await world.rpcDemo(servers[whose], 'demo');
    }
    for (const name of BROWSERS) ({ browser: browsers[name] } = await world.browser(name));
});
after(() => world.close());

async function openPage(name, version, whose) {
    const page = await world.page(browsers[name], version, servers[whose]);
    await page.evaluate(() => client.open());
    return page;
}

const connect = (page, options) => page.evaluate((options) => client.connect('demo', options), options);
const request = (page, conn, action, body) =>
    page.evaluate(([conn, action, body]) => client.connections[conn].request(action, body), [conn, action, body]);

for (const [name, version, whose, thorough] of MEETINGS) {
    const which = `${name}, PeerJS ${version}, the PeerServer of ${whose}`;
    for (const reliable of thorough ? [false, true] : [true]) {
        describe(`${which}, reliable: ${reliable}`, () => {
            let page, conn;
            before(async () => {
                page = await openPage(name, version, whose);
                conn = await connect(page, { reliable });
            });
            after(() => page?.close());

            test('every BinaryPack type is echoed, in a request and on its own', limit, async () => {
                const wrong = await page.evaluate(async (conn) => {
                    const connection = client.connections[conn];
                    const date = new Date(1732538096000);
                    const deep = (levels) => (levels === 0 ? ['deep'] : [{ level: levels, next: deep(levels - 1) }]);
                    const keys = (count) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`key ${i}`, i]));
                    // [what is sent, what must come back if that is something else]
                    const values = [
                        // No negative numbers below -2^31: PeerJS itself packs them wrongly.
                        ...[0, 1, 127, 128, 255, 256, 65535, 65536, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 1, 2 ** 53],
                        ...[-1, -32, -33, -128, -129, -32768, -32769, -(2 ** 31)],
                        ...[0.5, -0.25, 3.141592653589793, 1e-7, 2 ** -300, -123456789.125],
                        ...[true, false],
                        ...['', 'a', 'a'.repeat(15), 'a'.repeat(16), 'b'.repeat(65535), 'c'.repeat(65536), 'é€😀\u0000\n"\\'],
                        ...[0, 1, 15, 16, 255, 65535, 65536].map((length) => client.pattern(length, length)),
                        client.pattern(1000, 1).buffer,
                        new Uint16Array([1, 2, 65535]),
                        ...[[], [1], Array(15).fill(1), Array(16).fill('x'), Array(5000).fill([])],
                        ...[{}, keys(15), keys(16), keys(2000), { '': 1, 'ü 😀': 2, 7: 3 }],
                        [null, [null], { a: null, b: [true, { c: new Uint8Array([1, 2]), d: 'é' }] }],
                        deep(50),
                    ].map((value) => [value, value]);
                    values.push([[undefined, { u: undefined }], [null, { u: null }]], [date, String(date)], [[-0], [0]]);
                    const wrong = [];
                    const check = (how, sent, expected, got) => {
                        const [want, have] = [expected, got].map((value) => JSON.stringify(client.describe(value)));
                        if (want !== have) wrong.push(`${how}: ${want.slice(0, 200)} came back as ${have.slice(0, 200)}`);
                    };
                    for (const [value, expected] of [...values, [null, null]]) {
                        check('request', value, expected, (await connection.request('echo', value)).data);
                    }
                    for (const [value, expected] of values) {
                        connection.send(value);
                        check('on its own', value, expected, await connection.next());
                    }
                    return wrong;
                }, conn);
                assert.deepEqual(wrong, []);
            });

            for (const size of thorough ? [100 * KB, 1 * MB, 20 * MB] : [100 * KB]) {
                test(`a message of ${size / KB} KB each way`, limit, async () => {
                    const result = await page.evaluate(async ([conn, size]) => {
                        const connection = client.connections[conn];
                        const up = await connection.request('digest', { data: client.pattern(size, 5) });
                        const down = await connection.request('bytes', { size, seed: 6 });
                        const bytes = client.bytesOf(down.data);
                        connection.send(client.pattern(size, 7));
                        const back = client.bytesOf(await connection.next());
                        return {
                            up: up.data,
                            down: { length: bytes.length, sha256: await client.sha256(bytes) },
                            back: { length: back.length, sha256: await client.sha256(back) },
                        };
                    }, [conn, size]);
                    const expected = { up: patternDigest(size, 5), down: patternDigest(size, 6), back: patternDigest(size, 7) };
                    assert.deepEqual(result, expected);
                });
            }

            test('100 requests at once, answered as they are ready', limit, async () => {
                const answers = await page.evaluate(async (conn) => {
                    const connection = client.connections[conn];
                    const order = [];
                    const one = async (i) => {
                        const body = await connection.request('slow', { ms: (99 - i) * 5, value: { i, text: 'x'.repeat(i * 10) } });
                        order.push(i);
                        return body.data.i === i && body.data.text.length === i * 10;
                    };
                    return { right: (await Promise.all(Array.from({ length: 100 }, (_, i) => one(i)))).every(Boolean), order };
                }, conn);
                assert.equal(answers.right, true);
                assert.equal(answers.order.length, 100);
                assert.ok(answers.order.indexOf(99) < answers.order.indexOf(0), 'the quick one waited for the slow one');
            });

            for (const [size, chunk] of thorough ? [[0, 1000], [1, 1000], [16300, 16300], [MB, 16 * KB], [50 * MB, 64 * KB]] : [[MB, 16 * KB]]) {
                test(`a stream of ${size} bytes`, limit, async () => {
                    const body = { size, seed: 3, chunk };
                    const got = await page.evaluate(([conn, body]) => client.connections[conn].stream('file', body), [conn, body]);
                    assert.deepEqual(got, patternDigest(size, 3));
                });
            }

            test('an unknown action is answered 404, a failing one 500', limit, async () => {
                const unknown = await request(page, conn, 'no such action', { a: 1 });
                assert.equal(unknown.code, 404);
                assert.equal(unknown.data, null);
                assert.notEqual(unknown.message, '');
                assert.deepEqual(await request(page, conn, 'error', {}), { code: 500, data: null, message: 'boom' });
            });

            test('the whole context comes back', limit, async () => {
                const context = await page.evaluate(async (conn) => (await client.connections[conn].call('echo', { a: 1 })).context, conn);
                assert.equal(context.action, 'echo');
                assert.deepEqual(context.request.body, { a: 1 });
                assert.deepEqual(context.response.body, { code: 200, data: { a: 1 }, message: '' });
            });

            test('the storage side closes', limit, async () => {
                assert.equal((await request(page, conn, 'close', {})).data, 'closing');
                await within(10000, "the page's close event", page.evaluate((conn) => client.connections[conn].closed, conn));
            });
        });
    }

    test(`${which}: json and raw`, limit, async () => {
        const page = await openPage(name, version, whose);
        const wrong = await page.evaluate(async () => {
            const cases = {
                json: [{ a: [1, -1.5, 'é😀', null, true], b: { c: {} } }, 'text', 5, [], 'x'.repeat(10000)],
                raw: ['text é😀', 'y'.repeat(100000), client.pattern(1, 1), client.pattern(100000, 2), '', new Uint8Array(0)],
            };
            const wrong = [];
            for (const [serialization, values] of Object.entries(cases)) {
                const connection = client.connections[await client.connect('demo', { serialization, reliable: true })];
                for (const value of values) {
                    connection.send(value);
                    const [want, have] = [value, await connection.next()].map((item) => JSON.stringify(client.describe(item)));
                    if (want !== have) wrong.push(`${serialization}: ${want.slice(0, 200)} came back as ${have.slice(0, 200)}`);
                }
                connection.conn.close();
            }
            return wrong;
        });
        assert.deepEqual(wrong, []);
        await page.close();
    });

    test(`${which}: the browser closes, again and again`, limit, async () => {
        const page = await openPage(name, version, whose);
        const values = await page.evaluate(async () => {
            const values = [];
            for (let i = 0; i < 20; i++) {
                const connection = client.connections[await client.connect('demo', { reliable: true })];
                values.push((await connection.request('echo', i)).data);
                // Every second time the other side is asked to close, behind all that is queued.
                connection.conn.close({ flush: i % 2 === 1 });
                if (i % 2 === 1) await connection.closed;
            }
            return values;
        });
        assert.deepEqual(values, Array.from({ length: 20 }, (_, i) => i));
        await page.close();
    });
}

test('two browsers at once', limit, async () => {
    const pages = [await openPage('chromium', '1.5.4', 'datapeer'), await openPage('firefox', '1.5.5', 'datapeer')];
    const results = await Promise.all(pages.map((page, index) => page.evaluate(async (index) => {
        const connection = client.connections[await client.connect('demo', { reliable: true })];
        const stream = connection.stream('file', { size: 10_000_000, seed: index, chunk: 60000 });
        const echoes = await Promise.all(Array.from({ length: 50 }, (_, i) => connection.request('echo', { index, i })));
        return { stream: await stream, right: echoes.every(({ data }, i) => data.index === index && data.i === i) };
    }, index)));
    results.forEach((result, index) => assert.deepEqual(result, { stream: patternDigest(10 * MB, index), right: true }));
    for (const page of pages) await page.close();
});

test('rpc_demo is still alive and ends when told to', limit, async () => {
    for (const demo of Object.values(demos)) {
        assert.ok(demo.running, demo.errors);
        assert.equal((await demo.stop()).code, 0);
    }
});
