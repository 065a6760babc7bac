// The NATs of these tests are what they are said to be: else the other tests would prove nothing.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CORE, Internet, limits } from './lib/internet.mjs';

const probe = fileURLToPath(new URL('lib/nat-probe.mjs', import.meta.url));
const SECOND = '203.0.113.2';

const cases = [
    { nat: 'none', onePort: true, heard: ['another port', 'another address'] },
    { nat: 'firewall', onePort: true, heard: [] },
    { nat: 'eim', onePort: true, heard: ['another port'] },
    { nat: 'restricted', onePort: true, heard: [] },
    { nat: 'symmetric', onePort: false, heard: [] },
];

describe('the router', { concurrency: 2 }, () => {
    for (const { nat, onePort, heard } of cases) {
        test(nat, limits, async (t) => {
            const net = await Internet.create(t);
            const host = await net.host('a', await net.site({ nat, families: [4] }));
            await net.core.run(`ip address add ${SECOND}/32 dev lo`);
            const run = (where, mode, ready) => where.started(process.execPath, [probe, mode, CORE[4], SECOND], { ready });
            await run(net.core, 'serve', (line) => line === 'ready');
            const asked = await run(host, 'ask', (line) => line.startsWith('{'));
            const answer = JSON.parse(asked.lines.at(-1));
            assert.deepEqual(answer.heard, heard);
            assert.equal(answer.mappings[0] === answer.mappings[1], onePort);
        });
    }
});
