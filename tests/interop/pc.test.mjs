// `datapeer pc` and raw RTCPeerConnections, and two of our own: each as offerer and as answerer, trickling and not. Many cases share a
// connection: they use channels of their own.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CASES, close, open, RELIABLE, sizes } from './lib/cases.mjs';
import { connect, content, message, PageDriver, startDatapeer } from './lib/pc.mjs';
import { sha256 } from './lib/pattern.mjs';
import { BROWSERS, build, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
const NOTICED = 40000; // how long it may take until a vanished side is missed
const browsers = {};
const pages = {};
let deaths;

// One page a browser does for all connections that come one after the other.
async function pageOf(name, role, trickle) {
    pages[name] ??= PageDriver.start(world, name, (await browsers[name]).browser, role, trickle);
    const page = await pages[name];
    await page.reset(role, trickle);
    return page;
}

// The cases that take long, once for each pair and role.
const LONG = ['20 MB, both ways at once'];

// Two connected sides, of which the first offers, and all cases; at the end the side called first ends the connection.
function pairing(title, start, first, trickle) {
    describe(title, () => {
        let sides;
        before(async () => {
            sides = await start();
            const { own, incoming } = await connect(...sides);
            const wanted = { ev: 'open', label: 'first', ...RELIABLE, id: own.id };
            assert.deepEqual([own, incoming], [{ ...wanted, incoming: false }, { ...wanted, incoming: true }]);
            for (const { maxMessageSize } of sides) assert.ok(maxMessageSize >= 262143);
        });
        for (const [name, run] of Object.entries(CASES)) {
            if (trickle || !LONG.includes(name)) test(name, limit, () => run(...sides));
        }
        test('the end', limit, async () => {
            const other = sides[1 - first];
            assert.deepEqual(other.states, ['connecting', 'connected']);
            await sides[first].reset('offer', false);
            await other.wait('closed', 'first');
            assert.equal(other.has('closed', 'first'), false);
            await other.reset('offer', false);
        });
    });
}

// Connections of their own, until somebody vanishes; resolve when the other side has noticed. There the page's part ends: browsers
// go on hoping. Ours gives up.
const NOTICED_AS = ['disconnected', 'failed', 'closed'];

async function programDies(name) {
    const page = await PageDriver.start(world, name, (await browsers[name]).browser, 'offer', true);
    const datapeer = await startDatapeer(world, 'answer', '--trickle');
    await connect(page, datapeer);
    datapeer.command({ cmd: 'die' });
    await datapeer.program.exited;
    return page.wait('state', ({ state }) => NOTICED_AS.includes(state), NOTICED);
}

async function browserDies(name) {
    const { browser, pid } = await world.openBrowser(name);
    const page = await PageDriver.start(world, name, browser, 'answer', false);
    const datapeer = await startDatapeer(world, 'offer');
    await connect(datapeer, page);
    process.kill(-pid, 'SIGKILL');
    await datapeer.wait('state', ({ state }) => state === 'failed', NOTICED);
    await datapeer.wait('closed', 'first');
    datapeer.command({ cmd: 'echo', label: 'x' });
    return datapeer.wait('armed', 'x'); // and no error came before it
}

before(() => {
    for (const name of BROWSERS) browsers[name] = world.openBrowser(name);
    deaths = Object.fromEntries(BROWSERS.map((name) => [name, { program: programDies(name), browser: browserDies(name) }]));
    for (const { program, browser } of Object.values(deaths)) Promise.allSettled([program, browser]);
});
after(() => world.close());

for (const trickle of [true, false]) {
    const how = trickle ? 'trickling' : 'with all candidates in the descriptions';
    const options = trickle ? ['--trickle'] : [];
    for (const name of BROWSERS) {
        let datapeer; // the role and the way come by arguments at first, then by reset
        const start = async (role) => {
            if (datapeer) await datapeer.reset(role, trickle);
            else datapeer = await startDatapeer(world, role, ...options);
            const page = await pageOf(name, role === 'offer' ? 'answer' : 'offer', trickle);
            return role === 'offer' ? [datapeer, page] : [page, datapeer];
        };
        pairing(`datapeer calls ${name}, ${how}`, () => start('offer'), 0, trickle);
        pairing(`${name} calls datapeer, ${how}`, () => start('answer'), 0, trickle);
    }
    const both = () => Promise.all(['offer', 'answer'].map((role) => startDatapeer(world, role, ...options)));
    pairing(`datapeer calls datapeer, ${how}`, both, trickle ? 0 : 1, trickle);
}

for (const name of BROWSERS) {
    describe(`datapeer pc and ${name}`, () => {
        const pair = async (...options) => {
            const page = await pageOf(name, 'answer', false);
            const datapeer = await startDatapeer(world, 'offer', ...options);
            await connect(datapeer, page);
            return { datapeer, page };
        };

        test('quit says goodbye', limit, async () => {
            const { datapeer, page } = await pair();
            datapeer.command({ cmd: 'quit' });
            assert.deepEqual(await within(5000, 'its end', datapeer.program.exited), { code: 0, signal: null });
            await page.wait('closed', 'first');
        });

        test('so does the end of input', limit, async () => {
            const { datapeer, page } = await pair('--trickle');
            datapeer.program.child.stdin.end();
            assert.deepEqual(await within(5000, 'its end', datapeer.program.exited), { code: 0, signal: null });
            await page.wait('closed', 'first');
        });

        test('a page that closes is noticed at once', limit, async () => {
            const { datapeer, page } = await pair();
            page.command({ cmd: 'quit' });
            await datapeer.wait('closed', 'first');
            await datapeer.wait('state', ({ state }) => state === 'closed');
            datapeer.command({ cmd: 'quit' }); // also then
            await datapeer.program.exited;
        });

        test('--mdns hides our addresses', limit, async () => {
            const { datapeer, page } = await pair('--mdns');
            const candidates = datapeer.sdp.match(/^a=candidate:.*$/gm);
            assert.ok(candidates.length > 0);
            for (const candidate of candidates) assert.match(candidate, / udp \d+ [0-9a-f-]{36}\.local \d+ typ host/);
            await CASES['a string'](datapeer, page);
        });

        test(`${name} misses a program that died`, { timeout: 2 * NOTICED }, () => deaths[name].program);
        test(`a killed ${name} is missed`, { timeout: 2 * NOTICED }, () => deaths[name].browser);
    });
}

// Over what comes whole: in parts, which the driver puts together. Firefox 153 never sends more than 8 MiB, to another Firefox
// neither, and does not say so.
const LARGE_SIZES = [262145, 3000000, 8388608];

describe('messages over 256 KiB', () => {
    const long = { timeout: 180000 };

    test('Firefox sends and takes them', long, async () => {
        const page = await pageOf('firefox', 'answer', false);
        const datapeer = await startDatapeer(world, 'offer', '--max-message-size', '0');
        await connect(datapeer, page);
        assert.equal(datapeer.maxMessageSize, Infinity);
        await open(page, datapeer, 'large');
        await sizes(page, datapeer, 'large', LARGE_SIZES);
        await open(datapeer, page, 'also');
        datapeer.command({ cmd: 'sink', label: 'also', count: 2 });
        await datapeer.wait('armed', 'also');
        page.command({ cmd: 'send', label: 'also', size: 3000000, seed: 7, count: 2 });
        const { size, sha256: hash } = await datapeer.wait('sunk', 'also');
        assert.deepEqual([size, hash], [6000000, sha256(Buffer.concat([content(3000000, 7), content(3000000, 8)]))]);
    });

    test('Firefox sends none that we do not announce', long, async () => {
        const page = await pageOf('firefox', 'answer', false);
        const datapeer = await startDatapeer(world, 'offer', '--max-message-size', '3000000');
        await connect(datapeer, page);
        await open(page, datapeer, 'large');
        await sizes(page, datapeer, 'large', [3000000]);
        page.command({ cmd: 'send', label: 'large', size: 3000001 });
        assert.match((await page.wait('error')).message, /TypeError/);
    });

    test('Chromium understands that there is no limit, and sends what it can', long, async () => {
        const page = await pageOf('chromium', 'answer', false);
        const datapeer = await startDatapeer(world, 'offer', '--max-message-size', '0');
        await connect(datapeer, page);
        await open(page, datapeer, 'large');
        await sizes(page, datapeer, 'large', [262144]);
        page.command({ cmd: 'send', label: 'large', size: 262145 });
        assert.match((await page.wait('error')).message, /TypeError|OperationError/);
    });

    test('64 MiB from our own end to our own', long, async () => {
        const [a, b] = await Promise.all(['offer', 'answer'].map((role) => startDatapeer(world, role, '--max-message-size', '0')));
        await connect(a, b);
        await open(a, b, 'large', { ordered: false });
        const size = 67108864;
        a.command({ cmd: 'send', label: 'large', size, seed: 3 });
        assert.deepEqual(await b.wait('message', 'large', 120000), message('large', size, 3));
        assert.deepEqual(await a.wait('sent', 'large'), { ev: 'sent', label: 'large', count: 1 });
    });
});

test('what cannot be done is an error event, and all else goes on', limit, async () => {
    const [a, b] = await Promise.all(['offer', 'answer'].map((role) => startDatapeer(world, role)));
    const refused = async (driver, line) => {
        driver.command(line);
        const { ev, message: reason, ...rest } = await driver.wait('error');
        assert.match(reason, /./);
        return rest;
    };
    for (const line of ['', 'open', '[]', '"x"', '{"cmd":', '{"label":"x"}', '\u0000\ufffd']) a.program.child.stdin.write(`${line}\n`);
    assert.deepEqual(await refused(a, { cmd: 'start' }), { cmd: 'start' });
    assert.deepEqual(await refused(b, { cmd: 'start' }), { cmd: 'start' });
    assert.deepEqual(await refused(a, { cmd: 'dance', label: 'x' }), { cmd: 'dance' });
    a.command({ cmd: 'stats' });
    const { stats } = await a.wait('stats');
    assert.equal(stats.transport.packetsSent, 0);
    assert.equal(stats.candidatePair, null);
    assert.deepEqual(stats.dataChannels, []);
    assert.deepEqual(await refused(a, { cmd: 'candidate', candidate: 'candidate:1' }), { cmd: 'candidate' });
    assert.deepEqual(await refused(b, { cmd: 'description', type: 'offer', sdp: 'v=0\r\n' }), { cmd: 'description' });
    for (const bad of [
        { maxRetransmits: 65536 },
        { maxRetransmits: 'many' },
        { maxPacketLifeTime: -1 },
        { maxRetransmits: 0, maxPacketLifeTime: 0 },
        { negotiated: true },
        { negotiated: true, id: 65535 },
        { negotiated: true, id: 4294967296 },
        { protocol: 'p'.repeat(65536) },
    ])
        assert.deepEqual(await refused(a, { cmd: 'open', label: 'bad', ...bad }), { cmd: 'open', label: 'bad' });
    await connect(a, b);
    await open(b, a, 'x', { maxRetransmits: 65535 });
    assert.deepEqual(await refused(a, { cmd: 'open', label: 'x' }), { cmd: 'open', label: 'x' });
    assert.deepEqual(await refused(a, { cmd: 'send', label: 'x', size: b.maxMessageSize + 1 }), { cmd: 'send', label: 'x' });
    assert.deepEqual(await refused(a, { cmd: 'send', label: 'y', size: 1 }), { cmd: 'send', label: 'y' });
    await sizes(a, b, 'x', [b.maxMessageSize, 1]);
    await close(a, b, 'x');
    assert.deepEqual(await refused(a, { cmd: 'send', label: 'x', size: 1 }), { cmd: 'send', label: 'x' });
    a.command({ cmd: 'close', label: 'x' }); // as in the W3C's API, nothing
    await open(a, b, 'z');
});

test('input that is no pipe ends like any other', limit, () => {
    const stdio = ['ignore', 'pipe', 'inherit']; // /dev/null
    const { status, stdout } = spawnSync(join(build, 'datapeer'), ['pc', 'answer'], { stdio, timeout: 5000 });
    assert.deepEqual([status, `${stdout}`.split('\n').length], [0, 2]);
});

test('a channel that waits for room holds no other up', limit, async () => {
    const [a, b] = await Promise.all(['offer', 'answer'].map((role) => startDatapeer(world, role)));
    await connect(a, b);
    for (const label of ['before', 'much', 'after']) await open(a, b, label);
    b.command({ cmd: 'sink', label: 'much', count: 4000 });
    a.commands([
        { cmd: 'send', label: 'much', size: 65535, count: 4000 },
        { cmd: 'send', label: 'before', size: 10, seed: 1 },
        { cmd: 'send', label: 'after', size: 10, seed: 2 },
    ]);
    assert.deepEqual(await b.wait('message', 'before'), message('before', 10, 1));
    assert.deepEqual(await b.wait('message', 'after'), message('after', 10, 2));
    assert.equal(a.has('sent', 'much'), false);
});

test('what follows a reset is for the new connection', limit, async () => {
    const [a, b] = await Promise.all(['offer', 'answer'].map((role) => startDatapeer(world, role)));
    await connect(a, b);
    a.peer = b.peer = null;
    const old = [a.sdp, b.sdp];
    const isNew = ({ sdp }) => !old.includes(sdp);
    const lines = [{ cmd: 'reset' }, { cmd: 'open', label: 'new' }, { cmd: 'start' }];
    a.program.child.stdin.write(lines.map((line) => `${JSON.stringify(line)}\n`).join('')); // in one piece
    assert.equal((await a.wait('ready')).reset, true);
    const { type, sdp } = await a.wait('description', isNew);
    await b.wait('closed', 'first');
    b.commands([
        { cmd: 'reset', role: 'answer', trickle: true },
        { cmd: 'description', type, sdp },
    ]);
    const answer = await b.wait('description', isNew);
    await b.wait('candidate', ({ candidate }) => candidate === null); // it trickles now
    a.command({ cmd: 'description', type: answer.type, sdp: answer.sdp });
    await Promise.all([a.wait('open', 'new'), b.wait('open', 'new')]);
});

test('whoever closes does not want the echoes', limit, async () => {
    const [a, b] = await Promise.all(['offer', 'answer'].map((role) => startDatapeer(world, role)));
    await connect(a, b);
    b.command({ cmd: 'echo', label: 'first' });
    await b.wait('armed', 'first');
    a.commands([
        { cmd: 'send', label: 'first', size: 200000, count: 20 },
        { cmd: 'close', label: 'first' },
    ]);
    await Promise.all([a.wait('closed', 'first'), b.wait('closed', 'first')]);
    await open(b, a, 'second'); // and nobody has seen an error
});
