// datapeer ls and get against datapeer serve: what a person at a shell sees.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { pattern, sha256 } from './lib/pattern.mjs';
import { build, Program, until, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
const content = pattern(5e6, 7);
let server, folder, device;

before(async () => {
    folder = await world.temporaryFolder();
    const shared = join(folder, 'shared');
    await mkdir(join(shared, 'sub folder'), { recursive: true });
    await writeFile(join(shared, 'five'), content);
    await writeFile(join(shared, 'empty'), '');
    await writeFile(join(shared, 'bad\u001b[31mname'), 'x');
    await writeFile(join(shared, 'sub folder', 'größe.txt'), 'hello');
    await writeFile(join(shared, 'endless'), '');
    await truncate(join(shared, 'endless'), 1e12);
    server = await world.peerServer();
    device = await world.device(server, shared, 'shell-disk');
});
after(() => world.close());

function start(...args) {
    const program = new Program(join(build, 'datapeer'), args, { PEER_SERVER_URL: server.url });
    world.defer(() => program.stop());
    return program;
}

async function run(...args) {
    const program = start(...args);
    const { code } = await program.exited;
    return { code, out: program.lines.join('\n'), errors: program.errors };
}

test('ls shows folders, sizes and names, and no control characters', limit, async () => {
    const { code, out } = await run('ls', 'shell-disk');
    assert.equal(code, 0);
    assert.match(out, /^ *- .* sub folder\/$/m);
    assert.match(out, /^ *4\.8M .* five$/m);
    assert.match(out, / bad\?\[31mname$/m);
    assert.match((await run('ls', 'shell-disk:/sub folder')).out, / 5 .* größe\.txt$/m);
});

test('get fetches a file whole and prints its hash', limit, async () => {
    const target = join(folder, 'fetched');
    const { code, out, errors } = await run('get', 'shell-disk:five', '-o', target);
    assert.equal(code, 0, errors);
    assert.equal(out, `${sha256(content)}  ${target}`);
    assert.deepEqual(await readFile(target), Buffer.from(content));
    assert.equal((await run('get', 'shell-disk:empty', '-o', target)).code, 0);
    assert.equal((await readFile(target)).length, 0);
    assert.equal((await run('get', 'shell-disk:sub folder/größe.txt', '-o', '-')).out, 'hello');
});

test('what is not there, or may not be read, is said, and no file appears', limit, async () => {
    const target = join(folder, 'none');
    for (const [path, pattern] of [['missing', /404/], ['../fetched', /403/], ['sub folder', /403/]]) {
        const { code, errors } = await run('get', `shell-disk:${path}`, '-o', target);
        assert.equal(code, 1);
        assert.match(errors, pattern);
    }
    assert.equal((await run('get', 'shell-disk:five', '-o', '/nowhere/at/all')).code, 1);
    assert.deepEqual((await readdir(folder)).filter((name) => name.startsWith('none')), []);
});

test('an absent device and an absent PeerServer end with 3 and advice', limit, async () => {
    const { code, errors } = await run('ls', 'nobody');
    assert.equal(code, 3);
    assert.match(errors, /no such id/);
    const unreachable = await run('ls', 'nobody', '--server', 'ws://127.0.0.1:1/');
    assert.equal(unreachable.code, 3);
    assert.match(unreachable.errors, /--server/);
});

test('wrong use ends with 2, help with 0', limit, async () => {
    for (const args of [[], ['fly'], ['serve'], ['ls'], ['get', 'no-path'], ['ls', 'a', 'b'], ['ls', '--what', 'a'],
        ['serve', '/nowhere/at/all'], ['serve', folder, '--id', '-x-'], ['serve', folder, '--port', '70000'], ['ls', 'a', '--server', 'gopher://x/']])
        assert.equal((await run(...args)).code, 2, args.join(' '));
    for (const args of [['--help'], ['--version'], ['serve', '--help'], ['ls', '--help'], ['get', '--help'], ['peer', '--help']]) {
        const { code, out } = await run(...args);
        assert.equal(code, 0);
        assert.match(out, /datapeer/);
    }
});

test('a taken id ends serve with 1', limit, async () => {
    const { code, errors } = await run('serve', folder, '--id', 'shell-disk');
    assert.equal(code, 1);
    assert.match(errors, /taken/);
});

test('Ctrl-C or a hang-up in the middle of get leaves no partial file', limit, async () => {
    const partial = async () => (await readdir(folder)).filter((name) => name.startsWith('endless'));
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
        const program = start('get', 'shell-disk:endless', '-o', join(folder, 'endless'));
        const size = async () => Promise.all((await partial()).map(async (name) => (await stat(join(folder, name))).size));
        await until(20000, 'bytes in the partial file', async () => (await size())[0] > 0);
        program.child.kill(signal);
        assert.equal((await program.exited).code, 130, signal);
        assert.equal(program.errors, '');
        assert.deepEqual(await partial(), []);
    }
});

test('get writes into what is no plain file and never replaces it', limit, async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const reader = promisify(execFile)('cat', [pipe], { encoding: 'buffer', maxBuffer: 1e8 });
    const { code, errors } = await run('get', 'shell-disk:five', '-o', pipe);
    assert.equal(code, 0, errors);
    assert.deepEqual((await reader).stdout, Buffer.from(content));
    assert.ok((await stat(pipe)).isFIFO());
    const into = await run('get', 'shell-disk:five', '-o', folder);
    assert.equal(into.code, 1);
    assert.match(into.errors, /directory/i);
});

test('the device ends in the middle of get: an error, no file', limit, async () => {
    const other = await world.device(server, join(folder, 'shared'), 'short-lived');
    const program = start('get', 'short-lived:endless', '-o', join(folder, 'cut'));
    await until(20000, 'the read under way', async () => (await other.openFiles()).some((path) => path.endsWith('/endless')));
    await other.stop();
    assert.equal((await program.exited).code, 3);
    assert.match(program.errors, /closed/);
    assert.deepEqual((await readdir(folder)).filter((name) => name.startsWith('cut')), []);
});
