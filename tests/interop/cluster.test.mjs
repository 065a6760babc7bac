// Several `datapeer signal` that are one server by way of a real Redis: what npm's PeerServer can't (peers/peerjs-server #34, #176, #281).
import assert from 'node:assert/strict';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Client, http } from './lib/client.mjs';
import { proxy, Redis } from './lib/redis.mjs';
import { SERVERS } from './lib/servers.mjs';
import { Authority } from './lib/tls.mjs';
import { build, Program, until, VERSIONS, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
after(() => world.close());

const OPEN = '{"type":"OPEN"}';
const ID_TAKEN = '{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}';
const text = (type, src, dst, payload) => JSON.stringify({ type, src, dst, payload });

async function startNode(redis, more = []) {
    const node = await SERVERS.datapeer(world, {}, ['--redis', redis.url, '--allow-discovery', '--metrics', '-v', ...more]);
    await up(node);
    return node;
}
const health = async (node) => (await http(node, 'GET', '/healthz')).body;
const up = (node) => until(20000, 'a node with Redis', async () => (await health(node)) === 'ok\n');
const away = (node) => until(20000, 'a node without Redis', async () => (await health(node)) === 'ok, but no other node can be reached\n');
const peers = async (node) => JSON.parse((await http(node, 'GET', '/peerjs/peers')).body).sort();

async function metric(node, name) {
    const { body } = await http(node, 'GET', '/metrics');
    return Number(new RegExp(`^datapeer_signal_${name} (\\d+)$`, 'm').exec(body)[1]);
}

// What a client is told first; it is not waited for that it may stay.
async function knock(node, id, token) {
    const client = new Client(node, `key=peerjs&id=${id}&token=${token}`);
    return { client, said: await client.next() };
}

const nodeKeys = async (redis) => (await redis.cli('--scan', '--pattern', 'datapeer:{peerjs}:node:*')).split('\n').filter(Boolean);
// The key of the node that has this id.
async function keyOf(redis, id) {
    for (const key of await nodeKeys(redis)) if ((await redis.cli('hexists', key, id)) === '1') return key;
    return undefined;
}
// A message from one to the other, and back.
async function talk(a, aId, b, bId) {
    a.send({ type: 'OFFER', dst: bId, payload: aId });
    assert.equal(await b.next(), text('OFFER', aId, bId, aId));
    b.send({ type: 'ANSWER', dst: aId, payload: bId });
    assert.equal(await a.next(), text('ANSWER', bId, aId, bId));
}

describe('two nodes', () => {
    let redis, one, two;
    before(async () => {
        redis = await Redis.start(world);
        [one, two] = [await startNode(redis, ['--expire-timeout', '400']), await startNode(redis, ['--expire-timeout', '400'])];
    });

    test('messages go from one to the other, in order', limit, async () => {
        const [a, b] = [await Client.join(one, 'a'), await Client.join(two, 'böb "x"')];
        const payload = { sdp: 'v=0\r\n', deep: [{ 'ü': '\u0000\n' }] };
        for (const type of ['OFFER', 'CANDIDATE', 'CANDIDATE', 'LEAVE']) a.send({ type, src: 'eve', dst: 'böb "x"', payload });
        for (const type of ['OFFER', 'CANDIDATE', 'CANDIDATE', 'LEAVE']) assert.equal(await b.next(), text(type, 'a', 'böb "x"', payload));
        for (let i = 0; i < 500; i++) b.send({ type: 'CANDIDATE', dst: 'a', payload: i });
        for (let i = 0; i < 500; i++) assert.equal(await a.next(), text('CANDIDATE', 'böb "x"', 'a', i));
        const big = 'x'.repeat(65000);
        a.send({ type: 'OFFER', dst: 'böb "x"', payload: big });
        assert.equal(await b.next(), text('OFFER', 'a', 'böb "x"', big));
        await Promise.all([a.close(), b.close()]);
    });

    test('an id that the other node has is taken; the same token takes it over', limit, async () => {
        const first = await Client.join(one, 'x', 'secret-token');
        const { client, said } = await knock(two, 'x', 'another');
        assert.equal(said, ID_TAKEN);
        assert.equal(await client.closed, 1005);
        assert.deepEqual(await first.sync('x'), []);
        const second = await Client.join(two, 'x', 'secret-token');
        assert.equal(await within(5000, 'the end of the old socket', first.closed), 1000);
        const other = await Client.join(one, 'y');
        await talk(other, 'y', second, 'x');
        // And back again, at once.
        const third = await Client.join(one, 'x', 'secret-token');
        assert.equal(await within(5000, 'the end of the old socket', second.closed), 1000);
        await talk(other, 'y', third, 'x');
        // At its own node, too, which does not forget that it is here.
        const fourth = await Client.join(one, 'x', 'secret-token');
        assert.equal(await within(5000, 'the end of the old socket', third.closed), 1000);
        assert.deepEqual(await fourth.sync('x'), []);
        assert.equal((await knock(two, 'x', 'another')).said, ID_TAKEN);
        await talk(other, 'y', fourth, 'x');
        await fourth.close();
        const stranger = await Client.join(two, 'x', 'another'); // free now
        await Promise.all([stranger.close(), other.close()]);
    });

    test('no token stands in Redis', limit, async () => {
        const client = await Client.join(one, 'keeper', 'token-that-nobody-sees');
        const dump = await redis.cli('hgetall', await keyOf(redis, 'keeper'));
        assert.match(dump, /keeper\n\d{16} [0-9a-f]{64}/);
        assert.doesNotMatch(dump, /token/);
        await client.close();
    });

    test('/peers tells the ids of all nodes', limit, async () => {
        const clients = [await Client.join(one, 'p1'), await Client.join(two, 'p2'), await Client.join(two, 'p3')];
        assert.deepEqual(await peers(one), ['p1', 'p2', 'p3']);
        assert.deepEqual(await peers(two), ['p1', 'p2', 'p3']);
        await clients[1].close();
        await until(5000, 'p2 is gone', async () => (await peers(one)).join() === 'p1,p3');
        await Promise.all([clients[0].close(), clients[2].close()]);
    });

    test('messages wait for an absent peer, whichever node it comes to', limit, async () => {
        const a = await Client.join(one, 'a');
        for (let i = 0; i < 3; i++) a.send({ type: 'CANDIDATE', dst: 'late', payload: i });
        assert.deepEqual(await a.sync('a'), []);
        await until(5000, 'the queue', async () => (await redis.cli('llen', 'datapeer:{peerjs}:queue:late')) === '3');
        const late = await Client.join(two, 'late');
        for (let i = 0; i < 3; i++) assert.equal(await late.next(), text('CANDIDATE', 'a', 'late', i));
        // Nothing of them has expired.
        a.send({ type: 'OFFER', dst: 'never', payload: 1 });
        assert.equal(await a.next(), text('EXPIRE', 'never', 'a'));
        assert.equal(await redis.cli('exists', 'datapeer:{peerjs}:queue:never'), '0');
        assert.deepEqual(late.messages, []);
        await Promise.all([a.close(), late.close()]);
    });

    test('each sender hears once that its messages have expired, where it is by then', limit, async () => {
        const [a, b] = [await Client.join(one, 'a', 's'), await Client.join(two, 'b')];
        for (const client of [a, a, b]) client.send({ type: 'OFFER', dst: 'never', payload: 1 });
        const moved = await Client.join(two, 'a', 's');
        assert.equal(await moved.next(), text('EXPIRE', 'never', 'a'));
        assert.equal(await b.next(), text('EXPIRE', 'never', 'b'));
        assert.deepEqual(await moved.sync('a'), []);
        assert.deepEqual(await b.sync('b'), []);
        for (const type of ['LEAVE', 'EXPIRE']) b.send({ type, dst: 'never' }); // nobody waits for these
        assert.deepEqual(await b.sync('b'), []);
        assert.equal(await redis.cli('exists', 'datapeer:{peerjs}:queue:never'), '0');
        await Promise.all([moved.close(), b.close()]);
    });

    test('the queue of an absent peer is bounded, all nodes together', limit, async () => {
        const nodes = [await startNode(redis), await startNode(redis)];
        const [a, b] = [await Client.join(nodes[0], 'a'), await Client.join(nodes[1], 'b')];
        const returned = async (name) => [...(await a.sync('a')), ...(await b.sync('b'))].filter((message) => message.startsWith('{"type":"EXPIRE"') && message.includes(name)).length;
        const kept = (name) => redis.cli('llen', `datapeer:{peerjs}:queue:${name}`);
        for (const client of [a, b]) for (let i = 0; i < 40; i++) client.send({ type: 'OFFER', dst: 'many', payload: i });
        let back = 0;
        await until(4000, '16 that come back', async () => (back += await returned('many')) === 16);
        assert.equal(await kept('many'), '64');
        for (const client of [a, b]) for (let i = 0; i < 3; i++) client.send({ type: 'OFFER', dst: 'heavy', payload: 'x'.repeat(60000) });
        back = 0;
        await until(4000, '2 that come back', async () => (back += await returned('heavy')) === 2);
        assert.equal(await kept('heavy'), '4');
        for (const node of nodes) await node.program.stop();
    });

    test('a node withdraws no letters of others', limit, async () => {
        const patient = await startNode(redis); // five seconds
        const [a, b] = [await Client.join(one, 'a'), await Client.join(patient, 'b')];
        b.send({ type: 'OFFER', dst: 'late', payload: 'patient' });
        assert.deepEqual(await b.sync('b'), []);
        a.send({ type: 'OFFER', dst: 'late', payload: 'impatient' });
        assert.equal(await a.next(), text('EXPIRE', 'late', 'a'));
        const late = await Client.join(two, 'late');
        assert.equal(await late.next(), text('OFFER', 'b', 'late', 'patient'));
        assert.deepEqual(await late.sync('late'), []);
        await Promise.all([a, b, late].map((client) => client.close()));
        await patient.program.stop();
    });

    test('what others publish is checked, and garbage is counted', limit, async () => {
        const victim = await Client.join(one, 'victim');
        const [, , , name] = (await keyOf(redis, 'victim')).split(':');
        const channel = `datapeer:{peerjs}:to:${name}`;
        const before = await metric(one, 'cluster_garbage_total');
        const garbage = ['', 'L', 'M', 'M1', 'Mx victim', 'hello', 'L0Oa\nvictim\n{', 'L0Oa\nvictim\n1 2', 'L9Oa\nvictim\n1', 'L0Xa\nvictim\n1', 'L0O\nvictim\n1', `L0Oa\nvictim\n"${'x'.repeat(70000)}"`, 'L0Oa\x1b[2J\nvictim\n1', '\n'];
        for (const message of garbage) assert.equal(await redis.cli('publish', channel, message), '1');
        await redis.cli('publish', channel, 'M1 victim'); // of a stamp that is not this client's
        await redis.cli('publish', channel, 'L0Oa\nvictim\n{"fine":true}');
        assert.equal(await victim.next(), text('OFFER', 'a', 'victim', { fine: true }));
        assert.equal(await metric(one, 'cluster_garbage_total'), before + garbage.length);
        assert.deepEqual(await victim.sync('victim'), []);
        // So are ids and letters that stand there.
        await redis.cli('hset', await keyOf(redis, 'victim'), 'bad\nid', '1 ab', 'good', '1 ab');
        assert.deepEqual(await peers(two), ['good', 'victim']);
        await redis.cli('rpush', 'datapeer:{peerjs}:queue:heir', 'short', 'x'.repeat(40), `${'0'.repeat(16)}\n0Oa\nheir\n[2]`);
        const heir = await Client.join(two, 'heir');
        assert.equal(await heir.next(), text('OFFER', 'a', 'heir', [2]));
        await redis.cli('hdel', await keyOf(redis, 'victim'), 'bad\nid', 'good');
        await Promise.all([victim.close(), heir.close()]);
    });

    test('what each node has passed on is counted', limit, async () => {
        const [a, b] = [await Client.join(one, 'a'), await Client.join(two, 'b')];
        const before = [await metric(one, 'cluster_forwarded_total'), await metric(two, 'cluster_letters_total')];
        await talk(a, 'a', b, 'b');
        assert.equal(await metric(one, 'cluster_forwarded_total'), before[0] + 1);
        assert.equal(await metric(two, 'cluster_letters_total'), before[1] + 1);
        assert.equal(await metric(two, 'cluster_up'), 1);
        await Promise.all([a.close(), b.close()]);
    });

    test('PeerJS in Chromium: two pages, each at its own node', limit, async () => {
        const { browser } = await world.browser('chromium');
        const pages = [await world.page(browser, VERSIONS.at(-1), one), await world.page(browser, VERSIONS.at(-1), two)];
        await pages[0].evaluate(() => client.open({ id: 'storage', storage: true }));
        await pages[1].evaluate(() => client.open({ id: 'user' }));
        const answer = await pages[1].evaluate(async () => (await client.connections[await client.connect('storage')].request('echo', 'hello')).data);
        assert.equal(answer, 'hello');
        const error = await pages[1].evaluate(() => client.connect('nobody').then(() => 'open', (error) => error.type));
        assert.equal(error, 'peer-unavailable');
    });

    test('a node that ends in good order leaves nothing', limit, async () => {
        const three = await startNode(redis);
        const client = await Client.join(three, 'short-lived');
        assert.equal((await nodeKeys(redis)).length, 3);
        assert.deepEqual(await three.program.stop(), { code: 0, signal: null });
        assert.equal(await client.closed, 1001);
        await until(5000, 'its key is gone', async () => (await nodeKeys(redis)).length === 2);
        assert.equal(await redis.cli('scard', 'datapeer:{peerjs}:nodes'), '2');
        const { said } = await knock(one, 'short-lived', 'another');
        assert.equal(said, OPEN);
    });
});

describe('a node is killed', () => {
    let redis, one, two;
    before(async () => {
        redis = await Redis.start(world);
        [one, two] = [await startNode(redis), await startNode(redis)];
    });

    test('its clients come back elsewhere at once, and no message is lost', limit, async () => {
        const [a, b, orphan] = [await Client.join(one, 'a'), await Client.join(two, 'b', 'tb'), await Client.join(two, 'orphan', 'to')];
        const key = await keyOf(redis, 'b');
        two.program.child.kill('SIGKILL');
        await Promise.all([b.closed, orphan.closed]);
        // It is still in Redis, but nobody hears there any more.
        await until(5000, 'Redis has seen it', async () => (await redis.cli('pubsub', 'numsub', key.replace(':node:', ':to:'))).endsWith('\n0'));
        a.send({ type: 'OFFER', dst: 'b', payload: 'while it is away' });
        assert.deepEqual(await a.sync('a'), []);
        const { said } = await knock(one, 'b', 'thief');
        assert.equal(said, ID_TAKEN);
        const again = await Client.join(one, 'b', 'tb');
        assert.equal(await again.next(), text('OFFER', 'a', 'b', 'while it is away'));
        await talk(a, 'a', again, 'b');
        assert.deepEqual(await peers(one), ['a', 'b', 'orphan']);

        // Who does not come back loses the id when the node's time is over: it is, now.
        assert.equal((await knock(one, 'orphan', 'heir')).said, ID_TAKEN);
        assert.ok(Number(await redis.cli('pttl', key)) <= 15000);
        await redis.cli('pexpire', key, '1');
        await until(5000, 'its end', async () => (await redis.cli('exists', key)) === '0');
        assert.deepEqual(await peers(one), ['a', 'b']);
        assert.equal((await knock(one, 'orphan', 'heir')).said, OPEN);
        assert.equal(await redis.cli('scard', 'datapeer:{peerjs}:nodes'), '1');
        assert.equal((await nodeKeys(redis)).length, 1);
    });
});

describe('Redis goes away', () => {
    let redis, between, one, two;
    before(async () => {
        redis = await Redis.start(world);
        between = await proxy(world, redis);
        [one, two] = [await startNode(between), await startNode(redis)];
    });

    test('killed and started again: nodes serve alone, then all is as before', limit, async () => {
        const [a, b] = [await Client.join(one, 'a'), await Client.join(two, 'b')];
        const locals = [await Client.join(one, 'l1'), await Client.join(one, 'l2')];
        await redis.kill();
        await Promise.all([away(one), away(two)]);
        assert.equal(await metric(one, 'cluster_up'), 0);
        assert.match(one.program.errors, /Redis at 127\.0\.0\.1 is away: .*trying again\n/);
        await talk(locals[0], 'l1', locals[1], 'l2');
        assert.deepEqual(await peers(one), ['a', 'l1', 'l2']);
        // Both sides of a split take anybody who is new...
        const [first, came] = [await Client.join(one, 'twice', 't1'), await Client.join(one, 'there', 'm')];
        const [second, there] = [await Client.join(two, 'twice', 't2'), await Client.join(two, 'there', 'm')];
        const [left, back] = [await Client.join(two, 'back', 'n'), await Client.join(one, 'back', 'n')];
        // ...and what is for the other side waits.
        a.send({ type: 'OFFER', dst: 'b', payload: 'patience' });
        between.refuse('no');
        await redis.again();
        await up(two); // claims first
        between.refuse(undefined);
        await up(one);
        assert.equal(await b.next(), text('OFFER', 'a', 'b', 'patience'));
        await talk(a, 'a', b, 'b');
        // Of two with different tokens the one who is claimed first stays, and the other hears it.
        assert.equal(await first.next(), ID_TAKEN);
        assert.equal(await within(5000, 'its end', first.closed), 1005);
        await talk(a, 'a', second, 'twice');
        // Of one peer the newer socket stays, whoever claims first.
        assert.equal(await within(5000, 'the end of the old socket', came.closed), 1000);
        assert.equal(await within(5000, 'the end of the old socket', left.closed), 1000);
        await talk(a, 'a', there, 'there');
        await talk(a, 'a', back, 'back');
        await until(5000, 'all are there', async () => (await peers(one)).join() === 'a,b,back,l1,l2,there,twice');
        assert.deepEqual(await peers(two), await peers(one));
        assert.match(one.program.errors, /Redis at 127\.0\.0\.1 is back\n/);
    });

    test('emptied: the nodes make themselves known again', limit, async () => {
        const [a, b] = [await Client.join(one, 'c'), await Client.join(two, 'd')];
        await redis.cli('flushall');
        await Client.join(one, 'asked'); // finds out
        for (const key of await nodeKeys(redis)) assert.equal(await redis.cli('hexists', key, ''), '1', 'a claim makes no node');
        await until(20000, 'both are known', async () => (await peers(one)).join() === (await peers(two)).join() && (await peers(one)).includes('d'));
        await until(20000, 'one node each', async () => (await nodeKeys(redis)).length === 2);
        await talk(a, 'c', b, 'd');
    });

    test('hanging: a client waits two seconds at most', { timeout: 90000 }, async () => {
        redis.program.child.kill('SIGSTOP');
        const client = await Client.join(one, 'patient', 'p');
        await client.sync('patient');
        await away(one);
        redis.program.child.kill('SIGCONT');
        await Promise.all([up(one), up(two)]);
        const other = await Client.join(two, 'other');
        await talk(client, 'patient', other, 'other');
        assert.equal((await knock(two, 'patient', 'thief')).said, ID_TAKEN);
    });

    test('letters whose fate nobody knows come back', limit, async () => {
        const [a, b] = [await Client.join(one, 'g'), await Client.join(two, 'h')];
        redis.program.child.kill('SIGSTOP');
        a.send({ type: 'OFFER', dst: 'h', payload: 1 });
        a.send({ type: 'LEAVE', dst: 'h' });
        assert.deepEqual(await a.sync('g'), []);
        await redis.kill();
        assert.equal(await a.next(), text('EXPIRE', 'h', 'g'));
        await redis.again();
        await Promise.all([up(one), up(two)]);
        await talk(a, 'g', b, 'h');
    });

    test('its connections are cut, again and again', limit, async () => {
        const [a, b] = [await Client.join(one, 'e'), await Client.join(two, 'f')];
        for (let i = 0; i < 5; i++) {
            await redis.cli('client', 'kill', 'type', i % 2 ? 'pubsub' : 'normal', 'skipme', 'yes');
            await until(20000, 'both nodes', async () => (await peers(one)).filter((id) => id === 'e' || id === 'f').length === 2);
            await Promise.all([up(one), up(two)]);
            await talk(a, 'e', b, 'f');
        }
        await until(5000, 'no old names', async () => (await nodeKeys(redis)).length === 2);
    });
});

describe('what Redis says makes no sense', () => {
    let redis, between, one, two;
    before(async () => {
        redis = await Redis.start(world);
        between = await proxy(world, redis);
        [one, two] = [await startNode(between), await startNode(redis)];
    });

    // What it takes from all the nodes that come through the proxy ends their links; they make new ones.
    const nonsense = [
        ...['hello\r\n', '+OK\r\n', '-ERR no\r\n', ':1\r\n', '$-1\r\n', '*-1\r\n', '*0\r\n', '*1\r\n$-1\r\n', '$5\r\nab'],
        ...['*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n:5\r\n', '*2\r\n$7\r\nmessage\r\n$1\r\nx\r\n', '*2\r\n:1\r\n:2\r\n', '*1\r\n'.repeat(20) + ':1\r\n'],
        ...['*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n', '\0'.repeat(100), '$99999999999999999999\r\n', '*99999999999999999999\r\n', '*-7\r\n'],
        `$${64 << 20}\r\n${'x'.repeat(40 << 20)}`,
        `*1000\r\n${`$65536\r\n${'x'.repeat(65536)}\r\n`.repeat(600)}`,
    ];
    for (const words of nonsense) {
        test(`it says ${JSON.stringify(words.slice(0, 30))}`, limit, async () => {
            const [a, l, b] = [await Client.join(one, 'a', 'ta'), await Client.join(one, 'l', 'tl'), await Client.join(two, 'b', 'tb')];
            const before = between.taken;
            one.program.errors = '';
            between.inject(words);
            await talk(a, 'a', l, 'l');
            if (words.startsWith('$5')) between.cut(); // not all of a reply: that makes no sense only when more has come
            await until(10000, 'it comes again', () => between.taken > before);
            if (words.length > 1e6) assert.match(one.program.errors, /is away: its reply is too long\./);
            await until(10000, 'b is seen', async () => (await peers(one)).join() === 'a,b,l');
            await talk(a, 'a', b, 'b');
            await Promise.all([a, l, b].map((client) => client.close()));
            await until(10000, 'all are gone', async () => (await peers(two)).length === 0);
        });
    }

    test('who is still loading is waited for', limit, async () => {
        between.refuse('-LOADING Redis is loading the dataset in memory\r\n');
        const three = await SERVERS.datapeer(world, {}, ['--redis', between.url]);
        await until(10000, 'its complaint', () => three.program.errors.includes('is away: LOADING'));
        between.refuse(undefined);
        await up(three);
        await three.program.stop();
    });

    test('it never lets a node in', limit, async () => {
        const a = await Client.join(one, 'a');
        for (const words of ['+PONG\r\n', '+PONG\r\n+x\r\n', `+PONG\r\n${`$40\r\n${'0'.repeat(40)}\r\n`.repeat(8)}+no\r\n`, '-LOADING x\r\n', 'no\r\n']) {
            const before = between.taken;
            between.refuse(words);
            between.cut();
            await until(10000, 'it comes again', () => between.taken > before);
            await away(one);
            assert.deepEqual(await a.sync('a'), []);
        }
        between.refuse(undefined);
        between.cut();
        await up(one);
        await talk(a, 'a', await Client.join(two, 'b'), 'b');
    });
});

describe('logging in', () => {
    let redis;
    before(async () => (redis = await Redis.start(world, ['--requirepass', 'right', '--user', 'node', 'on', '>p%25ss', '~datapeer:*', '&datapeer:*', '+@read', '+@write', '+@pubsub', '+@scripting', '+@connection', '-@dangerous'])));

    async function refused(args, env = {}) {
        const program = new Program(join(build, 'datapeer'), ['signal', '--host', '127.0.0.1', '--port', '0', ...args], env);
        world.defer(() => program.stop());
        const how = await within(20000, 'its end', program.exited);
        return { code: how.code, errors: program.errors };
    }

    async function secretFile(text) {
        const path = join(await world.temporaryFolder(), 'password');
        await writeFile(path, text);
        await chmod(path, 0o600);
        return path;
    }

    test('a wrong password, or none, ends the program with the reason', limit, async () => {
        const none = await refused(['--redis', redis.url]);
        assert.equal(none.code, 1);
        assert.match(none.errors, /^datapeer: Redis at 127\.0\.0\.1 refuses us: NOAUTH Authentication required\.\n$/);
        const wrong = await refused(['--redis', redis.url], { REDIS_PASSWORD: 'wrong' });
        assert.equal(wrong.code, 1);
        assert.match(wrong.errors, /refuses us: WRONGPASS /);
        assert.doesNotMatch(wrong.errors, /: wrong/);
    });

    test('the password comes from the environment, a file or the URL', limit, async () => {
        process.env.REDIS_PASSWORD = 'right';
        const one = await startNode(redis);
        process.env.REDIS_PASSWORD = 'wrong'; // a file comes first
        const two = await startNode(redis, ['--redis-password-file', await secretFile('right\n')]);
        delete process.env.REDIS_PASSWORD;
        const three = await startNode({ url: redis.url.replace('//', '//node:p%2525ss@') });
        assert.match(three.program.errors, /a password in --redis can be read by every user of this machine/);
        process.env.REDIS_PASSWORD = 'p%25ss';
        await startNode({ url: redis.url.replace('//', '//node@') });
        delete process.env.REDIS_PASSWORD;
        const other = await startNode({ url: `${redis.url.replace('//', '//:right@')}/5` });
        const clients = [await Client.join(one, 'a'), await Client.join(two, 'b'), await Client.join(three, 'c')];
        await talk(clients[0], 'a', clients[1], 'b');
        await talk(clients[0], 'a', clients[2], 'c');
        const apart = await Client.join(other, 'a', 'another'); // channels are shared by all databases, ids are not
        assert.deepEqual(await peers(other), ['a']);
        assert.deepEqual(await apart.sync('a'), []);
        assert.deepEqual(await peers(one), ['a', 'b', 'c']);
    });

    test('what else can be wrong is said', limit, async () => {
        assert.match((await refused(['--redis', 'http://x'])).errors, /--redis: it must begin with redis:\/\/ or rediss:\/\/\n/);
        assert.match((await refused(['--redis', 'redis://no-such-host.invalid'])).errors, /--redis: there is no host no-such-host\.invalid\n/);
        assert.match((await refused(['--redis', redis.url, '--redis-password-file', '/nowhere'])).errors, /\/nowhere/);
        assert.match((await refused(['--redis', `${redis.url}/999`], { REDIS_PASSWORD: 'right' })).errors, /refuses us: ERR DB index is out of range\n/);
        assert.match((await refused(['--redis', redis.url.replace('//', '//node@')])).errors, /names a user, but there is no password/);
        assert.equal((await refused(['--redis-ca', 'x'])).code, 2);
    });
});

describe('rediss', () => {
    test('TLS, if the certificate is one of the authority, and for this host', limit, async () => {
        const folder = await world.temporaryFolder();
        const authority = new Authority(folder);
        const { cert, key } = authority.issue('redis', 'DNS:localhost, IP:127.0.0.1');
        const redis = await Redis.start(world);
        await redis.kill();
        redis.more = ['--port', '0', '--tls-port', String(redis.port), '--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', authority.file, '--tls-auth-clients', 'no'];
        await redis.again();
        const secure = { url: `rediss://127.0.0.1:${redis.port}` };
        const [one, two] = [await startNode(secure, ['--redis-ca', authority.file]), await startNode(secure, ['--redis-ca', authority.file])];
        const [a, b] = [await Client.join(one, 'a'), await Client.join(two, 'b')];
        await talk(a, 'a', b, 'b');
        const unsure = await SERVERS.datapeer(world, {}, ['--redis', secure.url]);
        await until(10000, 'its complaint', () => /is away: .*certificate/.test(unsure.program.errors));
        const plain = await SERVERS.datapeer(world, {}, ['--redis', `redis://127.0.0.1:${redis.port}`]);
        await until(10000, 'its complaint', () => /is away: /.test(plain.program.errors));
    });
});
