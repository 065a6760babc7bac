// What is left when one side, or the PeerServer, just vanishes.
import assert from 'node:assert/strict';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SERVERS } from './lib/servers.mjs';
import { BROWSERS, until, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 120000 };
let server, device, folder, file;

before(async () => {
    folder = join(await world.temporaryFolder(), 'disk');
    file = join(folder, 'large');
    await mkdir(folder);
    await writeFile(file, '');
    await truncate(file, 2e9);
    server = await SERVERS.datapeer(world);
    device = await world.device(server, folder, 'device');
});
after(() => world.close());

async function connectedPage({ browser }, at = server) {
    const page = await world.page(browser, '1.5.5', at);
    await page.evaluate(() => client.open());
    await connect(page);
    return page;
}

const connect = (page) => page.evaluate(() => client.connect('device', { reliable: true }).then(() => {}));
const list = (page) => page.evaluate(async () => (await client.connections.at(-1).request('fs.list', { path: '' })).data.entries.length);

// All connections share one socket, but a read that is under way holds the file open: so it can be seen from outside
// whether the device has forgotten a connection.
const reads = async () => (await device.openFiles()).filter((path) => path === file).length;

async function beginRead(page) {
    await page.evaluate(() => {
        const connection = client.connections.at(-1);
        connection.call('fs.read', { path: 'large', offset: 0, length: 2e9 }).catch(() => {});
        return new Promise((resolve) => connection.conn.once('data', () => resolve()));
    });
}

test('browsers are killed in the middle of a read; the next is served, and the dead ones forgotten', limit, async () => {
    const dead = await Promise.all(BROWSERS.map((name) => world.browser(name)));
    for (const browser of dead) await beginRead(await connectedPage(browser));
    assert.equal(await reads(), 2);
    // The whole process group: Firefox's network process, left alone, would still say goodbye.
    for (const { pid } of dead) process.kill(-pid, 'SIGKILL');

    const next = await connectedPage(await world.chromium());
    assert.equal(await list(next), 1);
    assert.equal(await reads(), 2);
    // Nothing says that they are gone: consent to send (RFC 7675) runs out 30 s after the last answer.
    await until(60000, 'the dead connections forgotten', async () => (await reads()) === 0);
    assert.equal(await list(next), 1);
});

test('a page closes in the middle of a read, and the read ends at once', limit, async () => {
    const page = await connectedPage(await world.chromium());
    for (let round = 0; round < 5; round++) {
        if (round > 0) await connect(page);
        await beginRead(page);
        assert.equal(await reads(), 1);
        await page.evaluate(() => client.connections.at(-1).conn.close());
        await until(10000, 'the file closed', async () => (await reads()) === 0);
    }
});

for (const [whose, start] of Object.entries(SERVERS)) {
    test(`the PeerServer of ${whose} is killed: connections live on, and when it is back the device has its id again`, limit, async () => {
        let server = await start(world);
        await world.device(server, folder, 'device');
        const { browser } = await world.chromium();
        const page = await connectedPage({ browser }, server);
        const id = await page.evaluate(() => client.peer.id);
        server.program.child.kill('SIGKILL');
        await server.program.exited;
        assert.equal(await list(page), 1);
        server = await start(world, { port: server.port });
        assert.equal(await list(page), 1);
        // The device comes back by itself; until then PeerJS reports that there is no such peer.
        let other;
        await until(60000, 'the device back', async () => {
            other = await connectedPage({ browser }, server).catch(() => null);
            return other !== null;
        });
        assert.equal(await list(other), 1);
        // PeerJS has to be asked: then it has its id again, too.
        const again = await page.evaluate(() => new Promise((resolve) => {
            client.peer.once('open', resolve);
            client.peer.reconnect();
        }));
        assert.equal(again, id);
        await browser.close();
    });
}

test('the device is told to end, and the page hears of it', limit, async () => {
    const page = await connectedPage(await world.chromium());
    const closed = page.evaluate(() => client.connections.at(-1).closed.then(() => 'closed'));
    const how = await device.stop();
    assert.equal(how.code, 0, device.errors);
    assert.equal(await within(10000, "the page's close event", closed), 'closed');
});
