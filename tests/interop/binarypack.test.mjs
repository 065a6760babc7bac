// Every BinaryPack vector from us to a real page and back.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { pack } from 'peerjs-js-binarypack';
import { pattern, sha256 } from './lib/pattern.mjs';
import { SERVERS } from './lib/servers.mjs';
import { build, notation, packVectors, unpackVectors } from './lib/vectors.mjs';
import { BROWSERS, PAGES, PeerDriver, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 120000 };
const browsers = {};
let server, driver, vectors;

before(async () => {
    vectors = await packVectors();
    server = await SERVERS.datapeer(world);
    for (const name of BROWSERS) ({ browser: browsers[name] } = await world.browser(name));
    driver = await PeerDriver.start(world, server);
});
after(() => world.close());

const hex = (bytes) => Buffer.from(bytes).toString('hex');
const head = (short, long, count) => hex(count > 65535 ? [long, count >>> 24, count >> 16, count >> 8, count] : [short, count >> 8, count]);

// JavaScript's pack() calls itself for each item, so it throws for these. [what they are, packed]
const LARGE = {
    A: (count) => head(0xdc, 0xdd, count) + '00'.repeat(count),
    K: (count) => head(0xde, 0xdf, count) + Array.from({ length: count }, (_, i) => hex(pack(`k${i}`)) + hex([i % 16])).join(''),
};
// PeerJS's decoder takes NaN, as its own encoder writes it, and subnormal numbers for others (docs/peerjs.md 3.1).
const MISREAD = ['num NaN', 'double 5e-324', 'double 1e-310'];
const largeCount = ({ value }) => Number(/^[AK]\((\d+)\)/.exec(value)?.[1] ?? 0);
const isTooLarge = (vector) => largeCount(vector) > 20000;

function packed(vector) {
    if (!vector.packed.includes(':')) return vector.packed;
    const text = isTooLarge(vector) ? LARGE[vector.value[0]](largeCount(vector)) : hex(pack(build(vector.value, pattern)));
    assert.equal(`${text.length / 2}:${sha256(Buffer.from(text, 'hex'))}`, vector.packed, vector.name);
    return text;
}

for (const [name, version] of PAGES) {
    describe(`${name}, PeerJS ${version}`, () => {
        let page, conn;
        before(async () => {
            page = await world.page(browsers[name], version, server);
            await page.evaluate(`window.build = ${build}`);
            const peer = await page.evaluate(() => client.open());
            ({ conn } = await driver.call('open', { peer, serialization: 'binary', reliable: true }));
            await page.evaluate(() => client.accept());
        });
        after(() => page?.close());

        // In an array of one: a bare null can't be received by PeerJS.
        test('from us to the page', limit, async () => {
            assert.ok(vectors.length > 280);
            const sent = [];
            for (const vector of vectors) sent.push(driver.call('send', { conn, value: `91${packed(vector)}` }));
            await Promise.all(sent);
            const wrong = await page.evaluate(async (values) => {
                const connection = client.connections.at(-1);
                const wrong = [];
                for (const [name, value] of values) {
                    const [want, have] = [[build(value, client.pattern)], await connection.next()].map((item) => JSON.stringify(client.describe(item)));
                    if (want !== have) wrong.push({ name, want: want.slice(0, 200), have: have.slice(0, 200) });
                }
                return wrong;
            }, vectors.map(({ name, value }) => [name, value]));
            assert.deepEqual(wrong.filter(({ name }) => !MISREAD.includes(name)), []);
            assert.equal(wrong.length, MISREAD.length);
        });

        test('from the page to us', limit, async () => {
            const mine = vectors.filter((vector) => vector.kind === 'pack' && !isTooLarge(vector));
            assert.ok(mine.length >= 260);
            await page.evaluate((values) => {
                const connection = client.connections.at(-1);
                for (const value of values) connection.send([build(value, client.pattern)]);
            }, mine.map(({ value }) => value));
            for (const vector of mine) {
                const { value } = await driver.call('recv', { conn, timeout: 10000 });
                assert.equal(value, `91${packed(vector)}`, vector.name);
            }
        });

        // Messages as no packer makes them. Those that are refused are dropped, and what comes behind them is not.
        test('the page packs by hand', limit, async () => {
            const unpack = await unpackVectors();
            const raw = unpack.map(({ packed, value }) => (value === undefined ? packed : packed.slice(0, 2 * notation(packed).length)));
            await page.evaluate((raw) => {
                const channel = client.connections.at(-1).conn.dataChannel;
                for (const hex of raw) channel.send(Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16)));
            }, raw);
            const good = unpack.filter(({ value }) => value !== undefined);
            assert.ok(good.length > 280 && unpack.length - good.length > 100);
            for (const { name, value } of good) {
                const got = notation((await driver.call('recv', { conn, timeout: 10000 })).value).value;
                assert.equal(got, value.replace('#8000000000000000', '#0000000000000000'), name); // packed again, zero has one form
            }
            await page.evaluate(() => client.connections.at(-1).send('after'));
            assert.equal((await driver.call('recv', { conn, timeout: 10000 })).value, hex(pack('after')));
        });
    });
}
