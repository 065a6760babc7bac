// What any two connected sides must be able to do: functions of the two drivers (lib/pc.mjs). Each uses channels of its own.
import assert from 'node:assert/strict';
import { content, message } from './pc.mjs';
import { sha256 } from './pattern.mjs';

export const RELIABLE = { ordered: true, maxRetransmits: null, maxPacketLifeTime: null, protocol: '', negotiated: false };

// a opens a channel and both have it, as it was asked for. Returns its id.
export async function open(a, b, label, init = {}) {
    a.command({ cmd: 'open', label, ...init });
    const [own, incoming] = await Promise.all([a.wait('open', label), b.wait('open', label)]);
    const { id } = own;
    const wanted = { ev: 'open', label, ...RELIABLE, ...init, id };
    assert.deepEqual([own, incoming], [{ ...wanted, incoming: false }, { ...wanted, incoming: true }]);
    return id;
}

// One side closes the channel, and it ends on both.
export async function close(a, b, label) {
    a.command({ cmd: 'close', label });
    await Promise.all([a.wait('closed', label), b.wait('closed', label)]);
}

// Text and bytes, each sent and echoed.
export async function sizes(a, b, label, sent) {
    b.command({ cmd: 'echo', label });
    await b.wait('armed', label);
    let seed = 1;
    for (const size of sent) {
        for (const binary of [true, false]) {
            a.command({ cmd: 'send', label, binary, size, seed });
            const wanted = message(label, size, seed++, binary);
            assert.deepEqual(await Promise.all([b.wait('message', label), a.wait('message', label)]), [wanted, wanted]);
            assert.deepEqual(await a.wait('sent', label), { ev: 'sent', label, count: 1 });
        }
    }
}

export async function mixed(a, b, label, count) {
    const size = (j) => Math.max((j * 37) % 3000, a.minMessageSize);
    const wanted = Array.from({ length: count }, (_, j) => ({ size: size(j), seed: j, binary: j % 3 !== 0 }));
    a.commands(wanted.map((what) => ({ cmd: 'send', label, ...what })));
    for (const { size, seed, binary } of wanted) assert.deepEqual(await b.wait('message', label), message(label, size, seed, binary));
}

export async function transfer(a, b, label, count, size, hash) {
    b.command({ cmd: 'sink', label, count });
    await b.wait('armed', label);
    a.command({ cmd: 'send', label, size, seed: 5, count });
    const { ms, ...sunk } = await b.wait('sunk', label);
    assert.deepEqual(sunk, { ev: 'sunk', label, count, size: count * size, sha256: hash });
    assert.ok(ms >= 0);
    assert.deepEqual(await a.wait('sent', label), { ev: 'sent', label, count });
}

export const LARGE = { count: 320, size: 65535 }; // 20 MB
export const LARGE_HASH = sha256(Buffer.concat(Array.from({ length: LARGE.count }, (_, j) => content(LARGE.size, 5 + j))));

// 20 of them: [label, protocol].
export const NAMES = [
    ['', ''],
    [' ', 'p'],
    ['"', "it's"],
    ['\\', '\\n'],
    ['\n\r\t', '\u0001'],
    ['{"cmd":"quit"}', 'json'],
    ['\u007f', '\u0080'],
    ['\u00fc', 'prot\u00f6col'],
    ['\u{1f600}', '\u{1f468}\u200d\u{1f469}\u200d\u{1f467}'],
    ['e\u0301', '\u0301'],
    ['\ufeff', '\ufeff'],
    ['\ufffd', '\uffff'],
    ['\u2028', '\u2029'],
    ['\u05e9\u05dc\u05d5\u05dd', '\u0645\u0631\u062d\u0628\u0627'],
    ['\u0000', '\u4f60\u597d'],
    ['before\u0000after', '\u0000\u{10ffff}\u0000'],
    ['%00%s%n', '<b>&amp;</b>'],
    ['__proto__', 'constructor'],
    ['l'.repeat(1000), 'p'.repeat(1000)],
    ['\u{1f980}'.repeat(16383) + 'xyz', ''], // 65,535 bytes
];

export const CASES = {
    'text and bytes of all sizes': async (a, b) => {
        await open(a, b, 'sizes');
        const [smallest, largest] = [Math.max(a.minMessageSize, b.minMessageSize), Math.min(a.maxMessageSize, b.maxMessageSize)];
        const possible = [0, 1, 1200, 16384, 65535, 65536, 262143].filter((size) => size >= smallest && size <= largest);
        await sizes(a, b, 'sizes', possible);
    },
    'a string': async (a, b) => {
        const text = 'na\u00efve \u{1f600} \u0000 "\\';
        await open(a, b, 'string');
        a.command({ cmd: 'send', label: 'string', text, count: 2 });
        const wanted = { ev: 'message', label: 'string', binary: false, size: Buffer.byteLength(text), sha256: sha256(Buffer.from(text)) };
        assert.deepEqual([await b.wait('message', 'string'), await b.wait('message', 'string')], [wanted, wanted]);
    },
    '200 mixed messages in order, both ways at once': async (a, b) => {
        await open(a, b, 'mixed');
        await Promise.all([mixed(a, b, 'mixed', 200), mixed(b, a, 'mixed', 200)]);
    },
    'unreliable kinds': async (a, b) => {
        const kinds = [
            { ordered: false, maxRetransmits: 0 },
            { ordered: true, maxRetransmits: 3 },
            { ordered: false, maxPacketLifeTime: 500 },
            { ordered: true, maxPacketLifeTime: 65535 },
            { ordered: false },
        ];
        for (const [n, kind] of kinds.entries()) {
            const label = `kind ${n}`;
            const [opener, other] = n % 2 === 0 ? [a, b] : [b, a];
            if (opener.brokenUnordered && !kind.ordered && n < 4) continue;
            await open(opener, other, label, kind);
            for (const [from, to] of [[a, b], [b, a]]) {
                from.command({ cmd: 'send', label, size: 1000, seed: 7 });
                assert.deepEqual(await to.wait('message', label), message(label, 1000, 7));
            }
        }
    },
    'a negotiated id, twice': async (a, b) => {
        const ordered = a.brokenUnordered || b.brokenUnordered;
        for (const label of ['negotiated', 'negotiated again']) {
            const init = { negotiated: true, id: 100, ordered, maxRetransmits: 1, protocol: 'mine' };
            for (const side of [a, b]) side.command({ cmd: 'open', label, ...init });
            const wanted = { ev: 'open', label, ...RELIABLE, ...init, incoming: false };
            assert.deepEqual(await Promise.all([a.wait('open', label), b.wait('open', label)]), [wanted, wanted]);
            for (const [from, to] of [[a, b], [b, a]]) {
                from.command({ cmd: 'send', label, size: 100, seed: 3 });
                assert.deepEqual(await to.wait('message', label), message(label, 100, 3));
            }
            await close(b, a, label);
        }
    },
    '20 channels with odd labels and protocols': async (a, b) => {
        const names = NAMES.filter(([label]) => Buffer.byteLength(label) <= Math.min(a.maxLabelSize, b.maxLabelSize));
        const ids = await Promise.all(names.map(([label, protocol]) => open(a, b, label, { protocol })));
        assert.equal(new Set(ids).size, names.length);
        for (const [label] of names) {
            a.command({ cmd: 'send', label, size: 10, seed: 9 });
            assert.deepEqual(await b.wait('message', label), message(label, 10, 9));
        }
        for (const [label] of names) await close(a, b, label);
    },
    'a channel that the answerer opens': async (a, b) => {
        const [first, second] = await Promise.all([open(b, a, 'by the answerer'), open(a, b, 'by the offerer')]);
        assert.notEqual(first % 2, second % 2);
        await Promise.all([mixed(a, b, 'by the answerer', 10), mixed(b, a, 'by the answerer', 10)]);
    },
    'closing after a send, from both sides, and the id again': async (a, b) => {
        const size = Math.min(100000, a.maxMessageSize, b.maxMessageSize);
        for (const [n, [opener, closer, other]] of [[a, a, b], [a, b, a], [b, b, a], [b, a, b]].entries()) {
            const labels = [`close ${n}`, `close ${n} again`];
            const ids = [];
            for (const label of labels) {
                ids.push(await open(opener, opener === a ? b : a, label));
                closer.commands([
                    { cmd: 'send', label, size, seed: 2, count: 3 },
                    { cmd: 'close', label },
                ]);
                for (let j = 0; j < 3; j++) assert.deepEqual(await other.wait('message', label), message(label, size, 2 + j));
                await Promise.all([a.wait('closed', label), b.wait('closed', label)]);
            }
            if (opener.reusesIds) assert.equal(ids[1], ids[0]);
        }
    },
    'a channel that both close at once': async (a, b) => {
        await open(a, b, 'both close');
        for (const side of [a, b]) side.command({ cmd: 'close', label: 'both close' });
        await Promise.all([a.wait('closed', 'both close'), b.wait('closed', 'both close')]);
    },
    '20 MB, both ways at once': async (a, b) => {
        await Promise.all([open(a, b, 'large'), open(b, a, 'large back')]);
        const { count, size } = LARGE;
        await Promise.all([transfer(a, b, 'large', count, size, LARGE_HASH), transfer(b, a, 'large back', count, size, LARGE_HASH)]);
    },
};
