// examples/dtls_cat against the openssl program: datapeer's DTLS alone, over UDP on loopback.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { build, DEADLINE, Program, until, World } from './lib/world.mjs';

const OPENSSL = '/usr/bin/openssl';
const SRTP = ['-use_srtp', 'SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80', '-keymatexport', 'EXTRACTOR-dtls_srtp', '-keymatexportlen', '60'];
const ENDED = { code: 0, signal: null };

const world = new World();
after(() => world.close());

const folder = await world.temporaryFolder();
const key = join(folder, 'key.pem');
const certificate = join(folder, 'certificate.pem');
const identity = ['-cert', certificate, '-key', key];
const newKey = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=openssl'];
execFileSync(OPENSSL, [...newKey, '-keyout', key, '-out', certificate], { stdio: 'ignore' });
const digest = execFileSync(OPENSSL, ['x509', '-in', certificate, '-noout', '-fingerprint', '-sha256'], { encoding: 'utf8' });
const fingerprint = `sha-256 ${digest.trim().split('=')[1]}`;
const wrong = `sha-256 ${Array(32).fill('AB').join(':')}`;

// A UDP port that nobody has.
async function freePort() {
    const socket = createSocket('udp4');
    await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
    const { port } = socket.address();
    await new Promise((resolve) => socket.close(resolve));
    return String(port);
}

// Resolves when it has opened its socket. Its stdout is data alone, so what it says stands in errors.
async function dtlsCat(...args) {
    const cat = new Program(join(build, 'examples/dtls_cat'), args, {});
    world.defer(() => cat.stop());
    await said(cat, 'fingerprint sha-256 ');
    return cat;
}

const said = (cat, text) => until(DEADLINE, `"${text}" of ${cat.name}`, () => cat.errors.includes(text));

const server = (port) => world.program(OPENSSL, ['s_server', '-dtls1_2', '-accept', `127.0.0.1:${port}`, '-Verify', '1', ...identity, ...SRTP], { ready: (line) => line === 'ACCEPT' });
const client = (port) => world.program(OPENSSL, ['s_client', '-dtls1_2', '-connect', `127.0.0.1:${port}`, ...identity, ...SRTP], { ready: (line) => line.startsWith('CONNECTED') });

// The two sides of --srtp in the order of RFC 5764 §4.2: keys of client and server, salts of client and server.
function srtpKeys(cat, clientSide, serverSide) {
    const [clientKey, clientSalt] = cat.errors.match(new RegExp(`^srtp ${clientSide} (\\w+) (\\w+)$`, 'm')).slice(1);
    const [serverKey, serverSalt] = cat.errors.match(new RegExp(`^srtp ${serverSide} (\\w+) (\\w+)$`, 'm')).slice(1);
    return clientKey + serverKey + clientSalt + serverSalt;
}

async function exportedBy(openssl) {
    const line = await openssl.waitLine((text) => text.includes('Keying material: '));
    return line.split(': ')[1];
}

async function talk(cat, openssl) {
    await said(cat, 'connected\n');
    cat.child.stdin.write('hello from datapeer\n');
    await openssl.waitLine((line) => line === 'hello from datapeer');
    openssl.child.stdin.write('hello from OpenSSL\n');
    await cat.waitLine((line) => line === 'hello from OpenSSL');
}

test('our client and openssl s_server', { timeout: 60000 }, async () => {
    const port = await freePort();
    const openssl = await server(port);
    const cat = await dtlsCat('--client', '--srtp', '--fingerprint', fingerprint, '127.0.0.1', port);
    await talk(cat, openssl);
    assert.equal(srtpKeys(cat, 'local', 'remote'), await exportedBy(openssl));
    cat.child.kill('SIGINT');
    assert.deepEqual(await cat.exited, ENDED);
    await openssl.waitLine((line) => line === 'DONE');
});

test('our server and openssl s_client', { timeout: 60000 }, async () => {
    const port = await freePort();
    const cat = await dtlsCat('--server', '--srtp', '--fingerprint', fingerprint, '127.0.0.1', port);
    const openssl = await client(port);
    await talk(cat, openssl);
    assert.equal(srtpKeys(cat, 'remote', 'local'), await exportedBy(openssl));
    openssl.child.stdin.end();
    await said(cat, 'closed by the peer');
    assert.deepEqual(await cat.exited, ENDED);
});

test('two of ours, which take the fingerprint from the input', { timeout: 60000 }, async () => {
    const port = await freePort();
    const ends = [await dtlsCat('--server', '127.0.0.1', port), await dtlsCat('127.0.0.1', port)];
    ends.forEach((cat, i) => cat.child.stdin.write(ends[1 - i].errors.match(/sha-256 [0-9A-F:]+\n/)[0]));
    await Promise.all(ends.map((cat) => said(cat, 'connected\n')));
    for (const [from, to] of [ends, [...ends].reverse()]) {
        from.child.stdin.write('across\n');
        await to.waitLine((line) => line === 'across');
    }
    ends[0].child.stdin.end();
    await said(ends[1], 'closed by the peer');
    assert.deepEqual(await Promise.all(ends.map((cat) => cat.exited)), [ENDED, ENDED]);
});

test('a wrong fingerprint ends it, and the message names both', { timeout: 60000 }, async () => {
    for (const role of ['--client', '--server']) {
        const port = await freePort();
        if (role === '--client') await server(port);
        const cat = await dtlsCat(role, '--fingerprint', wrong, '127.0.0.1', port);
        if (role === '--server') await client(port);
        assert.deepEqual(await cat.exited, { code: 1, signal: null });
        assert.match(cat.errors, new RegExp(`certificate mismatch: .*${wrong}.*${fingerprint}`));
        assert.doesNotMatch(cat.errors, /connected/);
    }
});

test('what it says about its arguments', { timeout: 60000 }, async () => {
    const run = (...args) => new Program(join(build, 'examples/dtls_cat'), args, {});
    const help = run('--help');
    await help.waitLine((line) => line.startsWith('usage: dtls_cat'));
    assert.deepEqual(await help.exited, ENDED);
    for (const args of [[], ['127.0.0.1'], ['--fingerprint', '127.0.0.1', '1'], ['--no-such', '127.0.0.1', '1']]) {
        assert.deepEqual(await run(...args).exited, { code: 2, signal: null });
    }
    const bad = run('--fingerprint', 'sha-1 AB', '127.0.0.1', '1');
    const none = run('127.0.0.1', '1');
    none.child.stdin.end();
    for (const cat of [bad, none]) {
        assert.deepEqual(await cat.exited, { code: 1, signal: null });
        assert.match(cat.errors, /the peer's fingerprint should be given as 'sha-256 AB:CD:\.\.\.'/);
    }
});
