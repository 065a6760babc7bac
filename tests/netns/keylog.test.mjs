// SSLKEYLOGFILE with a relay that is reached by TLS: its keys are logged beside those of the connection.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { CORE, Internet, limits, STUN, USER } from './lib/internet.mjs';

const tlsOnly = ['iifname "lan" meta l4proto udp drop', 'iifname "lan" meta l4proto tcp tcp dport != { 80, 443 } drop'];

test('the keys of TLS to a TURN server are logged, too', limits, async (t) => {
    const net = await Internet.create(t);
    const here = await net.host('a', await net.site({ families: [4] }));
    const there = await net.host('b', await net.site({ families: [4], forward: tlsOnly }));
    await net.peerServer();
    await net.coturn();
    const keys = join(await net.temporaryFolder(), 'keys');
    process.env.SSLKEYLOGFILE = keys; // of all that is started from here on; both programs add to one file
    await net.device(here, ['--ice-server', STUN]);
    const options = ['--ice-server', `turns:${CORE.name}:443`, '--turn-user', USER, '--turn-ca', net.authority];
    const download = await net.get(there, options);
    await download.finished();
    const lines = (await readFile(keys, 'utf8')).trim().split('\n');
    assert.ok(lines.every((line) => /^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}$/.test(line)), lines.join('\n'));
    assert.equal(lines.length, 3); // DTLS at both ends, TLS at one
    assert.equal(new Set(lines).size, 2);
    assert.match(download.log, /the key log is on: whoever reads it can decrypt what goes by TLS/);
});
