// Who is who: a device keeps its fingerprint, and whoever knows it cannot be given another one.
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build, Program, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
let server, folder, shared;

before(async () => {
    folder = await world.temporaryFolder();
    shared = join(folder, 'shared');
    await mkdir(shared);
    await writeFile(join(shared, 'file'), 'content');
    server = await world.peerServer();
});
after(() => world.close());

const environment = () => ({ PEER_SERVER_URL: server.url, XDG_STATE_HOME: join(folder, 'state') });

async function run(...args) {
    const program = new Program(join(build, 'datapeer'), args, environment());
    world.defer(() => program.stop());
    const { code } = await program.exited;
    return { code, out: program.lines.join('\n'), errors: program.errors };
}

// Returns {program, fingerprint} once it can be called.
async function serve(id, ...args) {
    const program = await world.program(join(build, 'datapeer'), ['serve', shared, '--id', id, ...args], { env: environment(), ready: (line) => line.startsWith('serving ') });
    const [, fingerprint] = /^fingerprint (sha-256 [0-9A-F:]{95})$/.exec(program.lines[0]);
    return { program, fingerprint };
}

// What the file comes to by other hands than ours.
async function hashOf(path, algorithm) {
    const { raw } = new X509Certificate(await readFile(path));
    const hex = createHash(algorithm.replace('-', '')).update(raw).digest('hex');
    return `${algorithm} ${hex.toUpperCase().match(/../g).join(':')}`;
}

function altered(fingerprint) {
    return fingerprint.slice(0, -1) + (fingerprint.endsWith('0') ? '1' : '0');
}

test('a device has the same fingerprint after a restart, in a file for its user alone', limit, async () => {
    const first = await serve('disk-1');
    await first.program.stop();
    const again = await serve('disk-1');
    await again.program.stop();
    assert.equal(again.fingerprint, first.fingerprint);
    const path = join(folder, 'state/datapeer/certificate.pem');
    assert.equal(await hashOf(path, 'sha-256'), first.fingerprint);
    assert.equal((await stat(path)).mode & 0o777, 0o600);

    const own = join(folder, 'own.pem');
    const other = await serve('disk-1', '--certificate', own);
    await other.program.stop();
    assert.equal(await hashOf(own, 'sha-256'), other.fingerprint);
    const ephemeral = await Promise.all(['disk-2', 'disk-3'].map((id) => serve(id, '--ephemeral')));
    assert.equal(new Set([first, other, ...ephemeral].map((device) => device.fingerprint)).size, 4);
});

test('two that start at once have one fingerprint', limit, async () => {
    const shares = ['--certificate', join(folder, 'deep/er/shared.pem')];
    const devices = await Promise.all(['twin-1', 'twin-2', 'twin-3'].map((id) => serve(id, ...shares)));
    assert.equal(new Set(devices.map((device) => device.fingerprint)).size, 1);
    assert.deepEqual(await readdir(join(folder, 'deep/er')), ['shared.pem']);
});

test('a file that others can read ends serve, and says what to do', limit, async () => {
    const path = join(folder, 'open.pem');
    await (await serve('open', '--certificate', path)).program.stop();
    await chmod(path, 0o644);
    const { code, out, errors } = await run('serve', shared, '--certificate', path);
    assert.equal(code, 1);
    assert.equal(out, '');
    assert.match(errors, /open\.pem is open to other users \(mode 644\).*chmod 600/);
});

test('ls and get take the right pin of each hash', limit, async () => {
    const path = join(folder, 'pinned.pem');
    await serve('pinned', '--certificate', path);
    for (const algorithm of ['sha-256', 'sha-384', 'sha-512']) {
        const { code, out, errors } = await run('get', 'pinned:file', '-o', '-', '--fingerprint', await hashOf(path, algorithm));
        assert.equal(code, 0, errors);
        assert.equal(out, 'content');
    }
    assert.equal((await run('ls', 'pinned', '--fingerprint', await hashOf(path, 'sha-256'))).code, 0);
});

test('a wrong pin ends get with 4, both fingerprints and advice; no file appears', limit, async () => {
    const path = join(folder, 'other.pem');
    const { fingerprint, program } = await serve('other', '--certificate', path);
    for (const algorithm of ['sha-256', 'sha-384', 'sha-512']) {
        const right = await hashOf(path, algorithm);
        const { code, errors } = await run('get', 'other:file', '-o', join(folder, 'never'), '--fingerprint', altered(right));
        assert.equal(code, 4, errors);
        assert.ok(errors.includes(right) && errors.includes(altered(right)), errors);
        assert.match(errors, /other is not what --fingerprint names/);
    }
    assert.deepEqual((await readdir(folder)).filter((name) => name.startsWith('never')), []);
    const { code } = await run('ls', 'other', '--fingerprint', fingerprint);
    assert.equal(code, 0, 'the device is not impressed');
    assert.ok(program.running);
});

// Its own descriptions, its own certificate: without a pin nothing looks wrong.
test('a PeerServer that answers with a device of its own deceives who has no pin', limit, async () => {
    const real = await serve('my-disk');
    const evil = await world.peerServer();
    const stolen = join(folder, 'stolen');
    await mkdir(stolen);
    await writeFile(join(stolen, 'file'), 'forged');
    await world.program(join(build, 'datapeer'), ['serve', stolen, '--id', 'my-disk', '--ephemeral', '--server', evil.url], { ready: (line) => line.startsWith('serving ') });
    const get = (...args) => run('get', 'my-disk:file', '-o', '-', '--server', evil.url, ...args);
    assert.equal((await get()).out, 'forged');
    const { code, out, errors } = await get('--fingerprint', real.fingerprint);
    assert.equal(code, 4, errors);
    assert.equal(out, '');
});

// What it passes on to the client is changed, in frames whose length stays.
async function forgingProxy(pattern, replacement) {
    const sockets = [];
    const proxy = createServer((client) => {
        const upstream = connect(server.port, '127.0.0.1');
        sockets.push(client, upstream);
        client.on('error', () => {}).pipe(upstream);
        upstream.on('error', () => {}).on('end', () => client.end());
        upstream.on('data', (data) => client.write(data.toString('latin1').replace(pattern, replacement), 'latin1'));
    });
    await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    world.defer(() => {
        sockets.forEach((socket) => socket.destroy());
        proxy.close();
    });
    return `ws://127.0.0.1:${proxy.address().port}`;
}

test('a description that names another certificate ends get with 4, and does not matter with a pin', limit, async () => {
    const { fingerprint } = await serve('described', '--ephemeral');
    const [, bytes] = fingerprint.split(' ');
    const url = await forgingProxy(bytes, altered(bytes));
    const { code, out, errors } = await run('get', 'described:file', '-o', '-', '--server', url);
    assert.equal(code, 4, errors);
    assert.equal(out, '');
    assert.ok(errors.includes(fingerprint) && errors.includes(altered(fingerprint)), errors);
    assert.match(errors, /described is not what its description names/);
    const pinned = await run('get', 'described:file', '-o', '-', '--server', url, '--fingerprint', fingerprint);
    assert.equal(pinned.out, 'content', pinned.errors);
});

test('a pin that can be none is wrong use', limit, async () => {
    const good = `sha-256 ${Array(32).fill('AB').join(':')}`;
    for (const text of ['', 'sha-256', good.slice(8), good.slice(0, -3), `${good}:00`, good.replace('256', '1'), 'sha-512' + good.slice(7)]) {
        const { code, errors } = await run('ls', 'x', '--fingerprint', text);
        assert.equal(code, 2, text);
        assert.match(errors, /it should look like 'sha-256 AB:CD/);
    }
    assert.equal((await run('serve', shared, '--fingerprint', good)).code, 2);
    assert.equal((await run('serve', shared, '--ephemeral', '--certificate', 'x')).code, 2);
});
