// examples/ice_chat: the ICE agent without the rest of datapeer.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { build, World } from './lib/world.mjs';

const world = new World();
after(() => world.close());

test('two agents alone find a path and carry lines both ways', { timeout: 60000 }, async () => {
    const ready = (line) => line.startsWith('credentials ');
    const ends = await Promise.all(['offer', 'answer'].map((role) => world.program(join(build, 'examples/ice_chat'), [role], { ready })));
    const type = (end, line) => end.child.stdin.write(`${line}\n`);
    await Promise.all(ends.map((end) => end.waitLine((line) => line.startsWith('candidate:'))));
    for (const [from, to] of [ends, [...ends].reverse()]) {
        for (const line of from.lines.filter((text) => /^(credentials|candidate:)/.test(text))) type(to, line);
    }
    await Promise.all(ends.map((end) => end.waitLine((line) => line === 'completed')));
    type(ends[0], 'hello from the offering side');
    type(ends[1], 'and from the answering one');
    await ends[1].waitLine((line) => line === 'hello from the offering side');
    await ends[0].waitLine((line) => line === 'and from the answering one');
    for (const end of ends) end.child.stdin.end();
    assert.deepEqual(await Promise.all(ends.map((end) => end.exited)), [{ code: 0, signal: null }, { code: 0, signal: null }]);
});
