// examples/copy_paste: one peer connection on the ready loop (<datapeer/pc_loop.h>), descriptions carried by hand.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { build, World } from './lib/world.mjs';

const world = new World();
after(() => world.close());

test('two programs that exchange only their descriptions chat', { timeout: 60000 }, async () => {
    const start = (role) => world.program(join(build, 'examples/copy_paste'), [role], { ready: (line) => line.startsWith('---') });
    const type = (end, line) => end.child.stdin.write(`${line}\n`);
    const [offerer, answerer] = [await start('offer'), await start('answer')];
    const carry = async (from, to) => {
        await from.waitLine((line) => line === '' && from.lines.some((other) => other.startsWith('a=fingerprint:')));
        for (const line of from.lines) type(to, line); // with the prompts, as people paste
    };
    await carry(offerer, answerer);
    await carry(answerer, offerer);
    for (const [from, to, text] of [[offerer, answerer, 'hello'], [answerer, offerer, 'here is the answering side']]) {
        await from.waitLine((line) => line === '--- connected: type ---');
        type(from, text);
        await to.waitLine((line) => line === `> ${text}`);
    }
    offerer.child.stdin.end();
    await answerer.waitLine((line) => line === '--- closed ---');
    assert.deepEqual(await Promise.all([offerer.exited, answerer.exited]), [{ code: 0, signal: null }, { code: 0, signal: null }]);
});
