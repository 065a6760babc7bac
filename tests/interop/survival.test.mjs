// What is left when one side just vanishes.
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { patternDigest } from './lib/pattern.mjs';
import { until, within, World } from './lib/world.mjs';

const world = new World();
let server, demo;

before(async () => {
    server = await world.peerServer();
    demo = await world.rpcDemo(server, 'demo');
});
after(() => world.close());

async function connectedPage({ browser }) {
    const page = await world.page(browser, '1.5.5', server);
    await page.evaluate(async () => {
        await client.open();
        await client.connect('demo', { reliable: true });
    });
    return page;
}

const stream = (page, size) =>
    page.evaluate((size) => client.connections.at(-1).stream('file', { size, seed: 1, chunk: 60000 }), size);

test('a browser is killed in the middle of a stream; the next one is served, and the dead one forgotten', { timeout: 120000 }, async () => {
    const count = async () => (await readdir(`/proc/${demo.child.pid}/fd`)).length;
    const before = await count();
    const first = await world.chromium();
    const page = await connectedPage(first);
    await page.evaluate(() => {
        client.flowing = new Promise((resolve) => client.connections[0].conn.once('data', resolve));
    });
    const broken = assert.rejects(stream(page, 500_000_000));
    await within(30000, 'the first piece', page.evaluate(() => client.flowing.then(() => null)));
    process.kill(first.pid, 'SIGKILL');
    await within(10000, 'the end of the browser', broken);

    const second = await world.chromium();
    const other = await connectedPage(second);
    assert.deepEqual(await stream(other, 1_000_000), patternDigest(1_000_000, 1));
    assert.ok(demo.running, demo.errors);
    await other.evaluate(() => client.connections.at(-1).conn.close());
    // Nothing says that the first one is gone: consent to send (RFC 7675) runs out 30 s after its last answer.
    await until(60000, 'the dead connection forgotten', async () => (await count()) <= before);
});

test('rpc_demo is told to end, and the page hears of it', { timeout: 60000 }, async () => {
    const page = await connectedPage(await world.chromium());
    const closed = page.evaluate(() => client.connections.at(-1).closed.then(() => 'closed'));
    const how = await demo.stop();
    assert.equal(how.code, 0, demo.errors);
    assert.equal(await within(10000, "the page's close event", closed), 'closed');
});
