// wss:// and HTTP proxies: our command against npm's PeerServer by TLS, with PeerJS on the other side; certificates of all kinds.
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer as createHttpsServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pack, unpack } from 'peerjs-js-binarypack';
import { Authority, mouth, proxy, selfSigned, tlsPeerServer } from './lib/tls.mjs';
import { build, parse, PeerDriver, Program, VERSIONS, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
// The developer's own must not lead elsewhere.
const clean = Object.fromEntries(['http_proxy', 'https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY', 'no_proxy', 'NO_PROXY', 'SSL_CERT_FILE'].map((name) => [name, '']));
let folder, authority, good, server;

before(async () => {
    folder = await world.temporaryFolder();
    authority = new Authority(folder);
    good = authority.issue('good', 'DNS:localhost, DNS:peers.example, IP:127.0.0.1');
    server = await tlsPeerServer(world, good);
    await mkdir(join(folder, 'shared'));
    await writeFile(join(folder, 'shared', 'hello'), 'hello');
});
after(() => world.close());

async function run(args, env = {}) {
    const program = new Program(join(build, 'datapeer'), args, { ...clean, ...env });
    world.defer(() => program.stop());
    const { code } = await program.exited;
    return { code, out: program.lines.join('\n'), errors: program.errors };
}

const ls = (url, ...more) => run(['ls', 'nobody-here', '--server', url, ...more]);
const hex = (value) => Buffer.from(pack(value)).toString('hex');
const trusting = () => ['--cafile', authority.file];

// The PeerServer was reached, and has given an id. Returns what was said on standard error.
async function reached(args, env = {}) {
    const program = await world.program(join(build, 'datapeer'), ['peer', ...args], { env: { ...clean, ...env }, ready: (line) => parse(line)?.ready === true });
    program.write({ id: 1, op: 'quit' });
    await program.exited;
    return program.errors;
}

function refused({ code, errors }, ...reasons) {
    for (const reason of reasons) assert.match(errors, reason);
    assert.equal(code, 3);
    assert.doesNotMatch(errors, /nobody-here/);
}

test('a device and its user meet by TLS', limit, async () => {
    const args = ['serve', join(folder, 'shared'), '--id', 'tls-disk', '--server', server.url, ...trusting()];
    await world.program(join(build, 'datapeer'), args, { env: clean, ready: (line) => line.includes('tls-disk') });
    const { code, out, errors } = await run(['ls', 'tls-disk'], { PEER_SERVER_URL: server.url, SSL_CERT_FILE: authority.file });
    assert.equal(code, 0, errors);
    assert.match(out, /hello$/);
    assert.equal(errors, '');
});

test('PeerJS in Chromium reaches a peer of ours, both by TLS', limit, async () => {
    const { browser } = await world.chromium(undefined, ['--ignore-certificate-errors']);
    const page = await world.page(browser, VERSIONS.at(-1), server);
    await page.evaluate(() => client.open({ id: 'tls-page', storage: true }));
    const env = { ...clean, PEER_SERVER_URL: server.url };
    const program = await world.program(join(build, 'datapeer'), ['peer', ...trusting()], { env, ready: (line) => parse(line)?.ready === true });
    const driver = new PeerDriver(program);
    const { conn } = await driver.call('open', { peer: 'tls-page', serialization: 'binary', reliable: true });
    const { response } = await driver.call('request', { conn, action: 'echo', body: hex('é') });
    assert.equal(unpack(new Uint8Array(Buffer.from(response, 'hex')).buffer).body.data, 'é');
    await driver.call('close', { conn });
});

test('names and addresses of the certificate', limit, async () => {
    await reached(['--server', server.url, ...trusting()]);
    await reached(['--server', `https://127.0.0.1:${server.port}/`, ...trusting()]);
    const other = await tlsPeerServer(world, authority.issue('other', 'DNS:other.example, DNS:*.example.org'));
    refused(await ls(other.url, ...trusting()), /the certificate of localhost is for other\.example$/m, /name the server as its certificate does/);
    refused(await ls(`wss://127.0.0.1:${other.port}/`, ...trusting()), /the certificate of 127\.0\.0\.1 is for other\.example$/m);
});

test('certificates that are not good now', limit, async () => {
    const expired = await tlsPeerServer(world, authority.issue('expired', 'DNS:localhost', { until: '20210203040506Z' }));
    refused(await ls(expired.url, ...trusting()), /the certificate of localhost expired on 2021-02-03, or this machine's clock is wrong$/m, /compare with 'date'/);
    const early = await tlsPeerServer(world, authority.issue('early', 'DNS:localhost', { from: '20980102000000Z' }));
    refused(await ls(early.url, ...trusting()), /the certificate of localhost is not valid before 2098-01-02/);
});

test('certificates that nobody known has signed', limit, async () => {
    // The system's list does not know the test's authority.
    refused(await ls(server.url), /the certificate of localhost is not signed by a known authority/, /--cafile FILE/);
    const another = new Authority(folder, 'another');
    refused(await ls(server.url, '--cafile', another.file), /not signed by a known authority/);
    const self = selfSigned(folder, 'DNS:localhost');
    const lonely = await tlsPeerServer(world, self);
    refused(await ls(lonely.url), /the certificate of localhost is self-signed: no known authority vouches for it/, /--cafile FILE/);
    await reached(['--server', lonely.url, '--cafile', self.cert]);
    for (let i = 0; i < 2; i++) {
        const errors = await reached(['--server', lonely.url, '--insecure']);
        assert.match(errors, /warning: --insecure: nobody checks that localhost is that server/);
    }
});

test('files of authorities that are none', limit, async () => {
    const garbage = join(folder, 'garbage.pem');
    await writeFile(garbage, 'garbage');
    refused(await ls(server.url, '--cafile', garbage), /no certificates \(PEM\) can be read from .*garbage\.pem/);
    const { code, errors } = await ls(server.url, '--cafile', join(folder, 'missing.pem'));
    assert.equal(code, 2);
    assert.match(errors, /missing\.pem: No such file/);
});

test('no TLS there, or no PeerServer', limit, async () => {
    const plain = await world.peerServer();
    refused(await ls(`wss://localhost:${plain.port}/`, ...trusting()), /localhost does not speak TLS on this port/, /ws:\/\/ is for servers without TLS/);
    refused(await ls(`ws://localhost:${server.port}/`), /HTTP|server/);
    const web = createHttpsServer({ cert: readFileSync(good.cert), key: readFileSync(good.key) }, (_, response) => response.writeHead(404).end());
    await new Promise((resolve) => web.listen(0, '127.0.0.1', resolve));
    world.defer(() => {
        web.close();
        web.closeAllConnections();
    });
    refused(await ls(`wss://localhost:${web.address().port}/`, ...trusting()), /HTTP status 404/);
});

test('the error is PeerJS\'s ssl-unavailable', limit, async () => {
    const program = new Program(join(build, 'datapeer'), ['peer', '--server', server.url, '-v'], clean);
    world.defer(() => program.stop());
    await program.exited;
    assert.match(program.errors, /ssl-unavailable/);
});

test('through a proxy, with and without TLS', limit, async () => {
    const plain = await world.peerServer();
    const names = { 'peers.example': server.port, 'plain.example': plain.port };
    const way = await proxy(world, { names });
    // The name is resolved by the proxy alone: here it has no address.
    await reached(['--server', 'wss://peers.example/', ...trusting()], { https_proxy: way.url() });
    assert.deepEqual([...new Set(way.seen)], ['peers.example:443']);
    await reached(['--server', 'ws://plain.example/'], { http_proxy: way.url() });
    assert.equal(way.seen.at(-1), 'plain.example:80');
    // It is the server's certificate that counts, not who is on the way.
    refused(await ls('wss://peers.example/', '--proxy', way.url()), /the certificate of peers\.example is not signed by a known authority/);
    const before = way.seen.length;
    await reached(['--server', server.url, ...trusting()], { all_proxy: way.url() }); // this machine's
    assert.equal(way.seen.length, before);
    await ls('wss://peers.example/', '--proxy', 'none', ...trusting());
    assert.equal(way.seen.length, before);
});

test('what a proxy refuses is told', limit, async () => {
    const way = await proxy(world, { user: 'alice:pass word', names: { 'peers.example': server.port, 'gone.example': 1 } });
    const through = (user, host = 'peers.example') => ls(`wss://${host}/`, '--proxy', way.url(user), ...trusting());
    await reached(['--server', 'wss://peers.example/', '--proxy', way.url('alice:pass%20word'), ...trusting()]);
    refused(await through(), /the proxy 127\.0\.0\.1:\d+ wants a user name and a password \(HTTP status 407\)/, /http:\/\/USER:PASSWORD@HOST:PORT/);
    const wrong = await through('alice:guess');
    refused(wrong, /does not take this user name and password \(HTTP status 407\)/);
    assert.doesNotMatch(wrong.errors, /guess/);
    refused(await through('alice:pass%20word', 'secret.example'), /does not let us connect to secret\.example:443 \(HTTP status 403\)/);
    refused(await through('alice:pass%20word', 'gone.example'), /can't reach gone\.example:443 \(HTTP status 502\)/);
    refused(await ls('wss://peers.example/', '--proxy', 'http://127.0.0.1:1', ...trusting()), /the proxy 127\.0\.0\.1: Connection refused/);
});

test('proxies that are none, or hostile', limit, async () => {
    const established = 'HTTP/1.1 200 OK\r\n\r\n';
    const cases = [
        ['SSH-2.0-OpenSSH_9\r\n\r\n', /the answer of the proxy 127\.0\.0\.1:\d+ is not HTTP/],
        [`HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(10000)}`, /the answer of the proxy 127\.0\.0\.1:\d+ is too long/],
        [`${established}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`, /sends bytes of its own/],
        ['HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\n\r\n', /refuses to connect to peers\.example:443 \(HTTP status 302\)/],
    ];
    for (const [words, reason] of cases) {
        const { url } = await mouth(world, words);
        refused(await ls('wss://peers.example/', '--proxy', url(), ...trusting()), reason);
    }
});
