// examples/foreign_poll and foreign_uv: the stack without our loop.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { build, World } from './lib/world.mjs';

const world = new World();
after(() => world.close());

for (const name of ['foreign_poll', 'foreign_uv']) {
    const path = join(build, 'examples', name);
    test(`${name}: all messages arrive, and both ends close`, { timeout: 60000, skip: existsSync(path) ? false : 'not built: there is no libuv' }, async () => {
        const program = await world.program(path, ['4'], { ready: (line) => line === '64 of 64 messages arrived' });
        assert.deepEqual(await program.exited, { code: 0, signal: null });
        const wanted = ['connecting', 'connected', "channel 'data' is open", 'closed'];
        for (const end of ['offerer', 'answerer']) {
            const said = program.lines.filter((line) => line.startsWith(`${end}: `)).map((line) => line.slice(end.length + 2));
            assert.deepEqual(said, wanted);
        }
    });
}
