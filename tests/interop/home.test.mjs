// `datapeer serve` as its own PeerServer, from outside: what it answers, whom it lets in, how it ends. No browser.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { Authority } from './lib/tls.mjs';
import { build, Program, root, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
let folder, home;

before(async () => {
    folder = join(await world.temporaryFolder(), 'disk');
    await mkdir(folder);
    await writeFile(join(folder, 'hello'), 'hello');
    home = await world.home(folder, 'home-disk');
});
after(() => world.close());

// {status, headers, body}; the path goes out as it is.
// localhost may have two addresses, of which serve takes one: like a browser, the next is tried (Node 18 does not by itself).
function http(url, path, { method = 'GET', headers = {}, ca } = {}) {
    const { protocol, hostname, port } = new URL(url);
    return new Promise((resolve, reject) => {
        const sent = (protocol === 'https:' ? httpsRequest : httpRequest)({ hostname, port, path, method, headers, ca, agent: false, autoSelectFamily: true }, (response) => {
            const pieces = [];
            response.on('data', (data) => pieces.push(data));
            response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces).toString() }));
        });
        sent.on('error', reject).end();
    });
}

async function run(...args) {
    const program = new Program(join(build, 'datapeer'), args, { PEER_SERVER_URL: '' });
    world.defer(() => program.stop());
    const { code } = await program.exited;
    return { code, out: program.lines.join('\n'), errors: program.errors };
}

test('the page: types, tags, policy', limit, async () => {
    const types = { '/': 'text/html; charset=utf-8', '/app.js': 'text/javascript; charset=utf-8', '/style.css': 'text/css; charset=utf-8', '/icon.svg': 'image/svg+xml', '/config.json': 'application/json; charset=utf-8' };
    for (const [path, type] of Object.entries(types)) {
        const { status, headers, body } = await http(home.page, path);
        assert.equal(status, 200, path);
        assert.equal(headers['content-type'], type);
        assert.equal(headers['content-length'], String(Buffer.byteLength(body)));
        assert.equal(headers['x-content-type-options'], 'nosniff');
        assert.equal(headers['cache-control'], 'no-cache');
        assert.equal(headers['access-control-allow-origin'], undefined);
        assert.match(headers['content-security-policy'], /^default-src 'none'; script-src 'self'; (?!.*(unsafe|\*))/);
        assert.equal(headers.etag, `"${createHash('sha256').update(body).digest('hex')}"`);
        const head = await http(home.page, path, { method: 'HEAD' });
        assert.deepEqual([head.status, head.body, head.headers], [200, '', headers]);
        const again = await http(home.page, path, { headers: { 'If-None-Match': headers.etag } });
        assert.deepEqual([again.status, again.body, again.headers.etag], [304, '', headers.etag]);
    }
    assert.equal((await http(home.page, '/')).body, await readFile(join(root, 'build/web/index.html'), 'utf8'));
    // The page makes no use of the Internet, and does not tell the id.
    assert.equal((await http(home.page, '/config.json')).body, '{"iceServers":[]}');
    for (const path of ['/peerjs/id', '/healthz']) assert.equal((await http(home.page, path)).status, 200);
});

test('no way to other files', limit, async () => {
    const paths = ['/hello', '/../hello', '/%2e%2e/hello', '/..%2fhello', '/app.js/', '//app.js', '/./app.js', '/app.js%00', '/%', '/../../etc/passwd', '/..%5capp.js', '/APP.JS', '/.git/config'];
    for (const path of paths) assert.equal((await http(home.page, path)).status, 404, path);
    assert.equal((await http(home.page, '/', { method: 'POST' })).status, 404);
});

test('ls and get need no more than the id', limit, async () => {
    assert.match((await run('ls', 'home-disk', '--server', home.url)).out, /hello$/);
    const { code, out, errors } = await run('get', 'home-disk:hello', '-o', '-', '--server', home.url);
    assert.deepEqual([code, out], [0, 'hello'], errors);
});

test('the id is the device\'s from the start; another device may come to the same PeerServer', limit, async () => {
    const taken = await run('serve', folder, '--id', 'home-disk', '--server', home.url);
    assert.deepEqual([taken.code, /the id is taken/.test(taken.errors)], [1, true]);
    await world.device(home, folder, 'guest-disk');
    assert.match((await run('ls', 'guest-disk', '--server', home.url)).out, /hello$/);
});

test('a path, a key, STUN servers, and a page of its own', limit, async () => {
    const page = await world.temporaryFolder();
    await writeFile(join(page, 'index.html'), '<p>mine');
    await symlink('/etc/passwd', join(page, 'passwd'));
    const ice = ['--ice-server', 'stun:127.0.0.1:1', '--ice-server', 'turn:127.0.0.1:1', '--turn-user', 'me:secret'];
    const other = await world.home(folder, 'a disk', ['--path', '/my/disk', '--key', 'a"b', '--page', page, ...ice]);
    assert.equal(other.page, `http://127.0.0.1:${other.port}/my/disk/#a%20disk`);
    assert.equal((await http(other.page, '/my/disk/')).body, '<p>mine');
    assert.deepEqual(JSON.parse((await http(other.page, '/my/disk/config.json')).body), { iceServers: [{ urls: 'stun:127.0.0.1:1' }], key: 'a"b' });
    for (const path of ['/', '/index.html', '/my/disk/passwd', '/my/disk/app.js']) assert.equal((await http(other.page, path)).status, 404, path);
    const { out, errors } = await run('ls', 'a disk', '--server', `${other.url}/my/disk`, '--key', 'a"b');
    assert.match(out, /hello$/, errors);
});

// Any page in a browser of this network can connect here: no address tells it from the neighbours.
test('a page of another site gets nothing', limit, async () => {
    const everywhere = new Program(join(build, 'datapeer'), ['serve', folder, '--id', 'shy', '--port', '0'], { PEER_SERVER_URL: '' });
    world.defer(() => everywhere.stop());
    const link = await everywhere.waitLine((line) => line.startsWith('open http://localhost:'));
    const homes = [home.page, `http://127.0.0.1:${new URL(link.slice(5)).port}/`];
    const joins = (page, origin) => new Promise((resolve) => {
        const socket = new WebSocket(new URL('/peerjs?key=peerjs&id=a&token=t', page), { origin });
        socket.on('message', (data) => (resolve(JSON.parse(data).type), socket.close())).on('error', (error) => resolve(error.message));
    });
    for (const page of homes) {
        for (const origin of ['https://evil.example', `http://evil.example:${new URL(page).port}`, 'null']) {
            assert.equal(await joins(page, origin), 'Unexpected server response: 403');
            assert.equal((await http(page, '/peerjs/id', { headers: { Origin: origin } })).status, 403);
        }
        for (const origin of [new URL(page).origin, 'http://localhost:5173', 'http://nas.local:9000', undefined]) assert.equal(await joins(page, origin), 'OPEN', origin);
    }
    assert.equal(everywhere.errors.match(/a page that is not of the local network/g).length, 1);
    const named = await world.home(folder, 'named', ['--allow-origin', 'http://nas.example:9000', '--allow-origin', 'https://page.example']);
    for (const origin of ['http://nas.example:9000', 'https://page.example']) assert.equal(await joins(named.page, origin), 'OPEN', origin);
    assert.equal(await joins(named.page, 'https://nas.example:9000'), 'Unexpected server response: 403');
    const open = await world.home(folder, 'open', ['--host', '0.0.0.0']);
    assert.equal(await joins(`http://127.0.0.1:${open.port}/`, 'https://page.example'), 'OPEN');
});

test('an access token', limit, async () => {
    const secret = join(await world.temporaryFolder(), 'token');
    await writeFile(secret, 'open sesame\n', { mode: 0o600 });
    const guarded = await world.home(folder, 'guarded', ['--access-token-file', secret]);
    assert.equal(guarded.page, `http://127.0.0.1:${guarded.port}/#id=guarded&token=... with the text in ${secret}`);
    assert.match((await run('ls', 'guarded', '--server', guarded.url, '--access-token-file', secret)).out, /hello$/);
    assert.notEqual((await run('ls', 'guarded', '--server', guarded.url)).code, 0);
});

test('TLS', limit, async () => {
    const authority = new Authority(await world.temporaryFolder());
    const { cert, key } = authority.issue('good', 'DNS:localhost, IP:127.0.0.1');
    const secure = await world.home(folder, 'secure', ['--tls-cert', cert, '--tls-key', key, '--host', 'localhost']);
    assert.match(secure.page, /^https:\/\/localhost:\d+\/#secure$/);
    assert.equal((await http(secure.page, '/', { ca: await readFile(authority.file) })).status, 200);
    await assert.rejects(http(secure.page.replace('https', 'http'), '/'));
    const { out, errors } = await run('ls', 'secure', '--server', `wss://localhost:${secure.port}/`, '--cafile', authority.file);
    assert.match(out, /hello$/, errors);
});

test('Ctrl-C: clients are told, the port is free again', limit, async () => {
    const short = await world.home(folder, 'short');
    const socket = new WebSocket(`${short.url}/peerjs?key=peerjs&id=a&token=t`);
    await new Promise((resolve) => socket.once('message', resolve));
    const closed = new Promise((resolve) => socket.on('close', resolve));
    short.program.child.kill('SIGINT');
    assert.equal(await closed, 1001);
    assert.deepEqual(await short.program.exited, { code: 0, signal: null });
    assert.equal(short.program.errors, '');
    const again = await world.home(folder, 'short', ['--port', String(short.port)]);
    assert.equal(again.port, short.port);
});

test('wrong use and a taken port are said', limit, async () => {
    const blocker = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => blocker.once('listening', resolve));
    world.defer(() => blocker.close());
    const { port } = blocker.address();
    const here = ['--host', '127.0.0.1'];
    for (const [args, code, why] of [
        [[...here, '--port', String(port)], 3, /can't listen on 127\.0\.0\.1:\d+: is another program using it\? Choose another port with --port/],
        [['--port', '7000', '--tcp'], 2, /--tcp takes TCP port 7000/],
        [[...here, '--page', '/nowhere'], 1, /--page \/nowhere: No such file/],
        [[...here, '--server', 'ws://127.0.0.1:1'], 2, /--host is about a PeerServer of our own/],
        [['--proxy', 'http://127.0.0.1:1'], 2, /about another PeerServer/],
        [['--host', '192.0.2.77'], 3, /can't listen on 192\.0\.2\.77/],
        [['--path', 'x'], 2, /--path must look like/],
    ]) {
        const got = await run('serve', folder, '--id', 'wrong', ...args);
        assert.equal(got.code, code, `${args.join(' ')}: ${got.errors}`);
        assert.match(got.errors, why);
    }
});
