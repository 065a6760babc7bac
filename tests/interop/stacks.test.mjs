// `datapeer pc` and other stacks, two of Debian and one of npm: each as offerer and as answerer, trickling and not, two pairs at a time.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { CASES, close, open, RELIABLE } from './lib/cases.mjs';
import { connect, message, ProgramDriver, startDatapeer } from './lib/pc.mjs';
import { build, root, World } from './lib/world.mjs';

const drivers = join(root, 'tests/interop/drivers');
const world = new World();
const NOTICED = 40000; // how long it may take until a vanished side is missed
const limit = { timeout: 120000 };
const LARGE = '20 MB, both ways at once';

// What they cannot do is theirs: facts about the versions in Debian 12 and package.json.
const STACKS = {
    aiortc: {
        program: async () => ['/usr/bin/python3', join(drivers, 'aiortc_driver.py')],
        limits: { maxMessageSize: 65536 }, // says so
    },
    pion: {
        program: async () => {
            const path = join(build, 'interop/pion_driver');
            await promisify(execFile)(join(drivers, 'build_pion'), [path]);
            return [path];
        },
        limits: {
            maxMessageSize: 65535, // says nothing, which means 65,536 (RFC 8841 §6.1), but reads into a buffer of this size
            maxLabelSize: 8000, // an OPEN over 8,192 bytes ends its accepting
            reusesIds: false,
        },
    },
    werift: {
        program: async () => [process.execPath, join(drivers, 'werift_driver.mjs')],
        limits: { maxMessageSize: 65536, minMessageSize: 1, brokenUnordered: true },
        // Where an id is used again at once: it tells of the end when it asks for its own reset. What it sends on the next channel before
        // that is confirmed has a number that no longer counts, and the confirmation ends that channel.
        without: ['a negotiated id, twice', 'closing after a send, from both sides, and the id again'],
        // It resets that stream twice, and the second confirmation ends the next channel of that id: so there is none.
        last: 'a channel that both close at once',
    },
};

const programs = {};

async function start(name, role, trickle) {
    const [path, ...args] = await (programs[name] ??= STACKS[name].program());
    return ProgramDriver.start(world, name, path, [...args, role, ...(trickle ? ['--trickle'] : [])]);
}

// The two, connected: [offerer, answerer, ours, theirs].
async function pair(name, weOffer, trickle) {
    const options = trickle ? ['--trickle'] : [];
    const [ours, theirs] = await Promise.all([
        startDatapeer(world, weOffer ? 'offer' : 'answer', ...options),
        start(name, weOffer ? 'answer' : 'offer', trickle),
    ]);
    const sides = weOffer ? [ours, theirs] : [theirs, ours];
    const { own, incoming } = await connect(...sides);
    const wanted = { ev: 'open', label: 'first', ...RELIABLE, id: own.id };
    assert.deepEqual([own, incoming], [{ ...wanted, incoming: false }, { ...wanted, incoming: true }]);
    Object.assign(theirs, STACKS[name].limits);
    return [...sides, ours, theirs];
}

// Resolves when side has noticed that the other one has vanished.
function missed(side) {
    return side.wait('state', ({ state }) => ['disconnected', 'failed', 'closed'].includes(state), NOTICED);
}

async function death(name, weDie) {
    const [, , ours, theirs] = await pair(name, weDie, true);
    const [dying, other] = weDie ? [ours, theirs] : [theirs, ours];
    dying.command({ cmd: 'die' });
    await dying.program.exited;
    return missed(other);
}

const deaths = {};
before(() => {
    for (const name of Object.keys(STACKS)) {
        deaths[name] = [true, false].map((weDie) => death(name, weDie));
        Promise.allSettled(deaths[name]);
    }
});
after(() => world.close());

function pairing(name, weOffer, trickle) {
    const title = weOffer ? `datapeer calls ${name}` : `${name} calls datapeer`;
    describe(`${title}, ${trickle ? 'trickling' : 'with all candidates in the descriptions'}`, { concurrency: 1 }, () => {
        const { without = [], last } = STACKS[name];
        let a, b, ours, theirs;
        before(async () => ([a, b, ours, theirs] = await pair(name, weOffer, trickle)));
        for (const [title, run] of Object.entries(CASES)) {
            // aiortc needs 15 s of processor time for it: once in each role, trickling and not.
            if ((title === LARGE && weOffer !== trickle) || title === last || without.includes(title)) continue;
            test(title, limit, () => run(a, b));
        }
        test('what is too large for the other side is refused', limit, async () => {
            const label = 'too large';
            await open(a, b, label);
            ours.command({ cmd: 'send', label, size: 65537 });
            const { cmd, message: why } = await ours.wait('error', label);
            assert.deepEqual({ cmd, why }, { cmd: 'send', why: 'too large' });
            ours.command({ cmd: 'send', label, size: 10, seed: 1 });
            assert.deepEqual(await theirs.wait('message', label), message(label, 10, 1));
        });
        if (name === 'aiortc') {
            test('it sends more than it takes', limit, async () => {
                await open(a, b, 'huge');
                theirs.command({ cmd: 'send', label: 'huge', size: 262143, seed: 4 });
                assert.deepEqual(await ours.wait('message', 'huge'), message('huge', 262143, 4));
            });
        }
        if (without.length > 0) {
            test('closing from both sides', limit, async () => {
                for (const label of ['ours', 'theirs']) await open(a, b, label);
                await close(ours, theirs, 'ours');
                await close(theirs, ours, 'theirs');
            });
        }
        if (last) test(last, limit, () => CASES[last](a, b));
        test('the end', limit, async () => {
            // A busy machine makes aiortc miss a consent check: disconnected, and back.
            assert.deepEqual(ours.states.slice(0, 2), ['connecting', 'connected']);
            assert.equal(ours.states.at(-1), 'connected');
            assert.ok(!ours.states.includes('failed'));
            const [first, other] = trickle ? [ours, theirs] : [theirs, ours];
            first.command({ cmd: 'quit' });
            assert.equal((await first.program.exited).code, 0);
            await other.wait('closed', 'first');
        });
    });
}

for (const name of Object.keys(STACKS)) {
    describe(name, { concurrency: 2 }, () => {
        for (const weOffer of [true, false]) for (const trickle of [true, false]) pairing(name, weOffer, trickle);
    });
}

for (const name of Object.keys(STACKS)) {
    test(`${name} misses a program that died`, limit, async () => assert.equal((await deaths[name][0]).ev, 'state'));
    test(`a killed ${name} is missed`, limit, async () => assert.equal((await deaths[name][1]).ev, 'state'));
}
