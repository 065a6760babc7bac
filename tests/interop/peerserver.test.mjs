// What a client sees of a PeerServer: the same tests against npm's and against ours. Where they differ, the test says so by the name
// of the server, and docs/peerserver.md why.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, readFile } from 'node:fs/promises';
import { get } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { Client, http } from './lib/client.mjs';
import { SERVERS } from './lib/servers.mjs';
import { PAGES, until, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 60000 };
// npm's server is Node's: before version 20 that answered requests without Host, and with a space behind a field's name.
const strictNode = Number(process.versions.node.split('.')[0]) >= 20;
after(() => world.close());

// Bytes there, bytes back until the server closes.
function raw(server, text) {
    return new Promise((resolve, reject) => {
        let answer = '';
        const socket = connect(server.port, '127.0.0.1', () => socket.write(text));
        socket.on('data', (data) => (answer += data));
        socket.on('close', () => resolve(answer));
        socket.on('error', reject);
    });
}

const error = (msg) => JSON.stringify({ type: 'ERROR', payload: { msg } });

for (const [name, start] of Object.entries(SERVERS)) {
    describe(`the PeerServer of ${name}`, () => {
        let server;
        before(async () => (server = await start(world)));

        test('GET KEY/id gives a new UUID to every origin', limit, async () => {
            const ids = new Set();
            for (const path of ['/peerjs/id?ts=1&version=1.5.5', '/peerjs/id', '/another/id', '/peerjs/ID', '/peerjs/id/']) {
                const { status, headers, body } = await http(server, 'GET', path, { Origin: 'https://page.example' });
                assert.equal(status, 200, path);
                assert.equal(headers['content-type'], 'text/html; charset=utf-8');
                assert.equal(headers['access-control-allow-origin'], 'https://page.example');
                assert.equal(headers['access-control-allow-credentials'], undefined);
                assert.equal(headers.vary, 'Origin');
                assert.match(body, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
                ids.add(body);
            }
            assert.equal(ids.size, 5);
        });

        test('GET / tells what it is', limit, async () => {
            const { status, headers, body } = await http(server, 'GET', '/');
            assert.equal(status, 200);
            assert.equal(headers['content-type'], 'application/json; charset=utf-8');
            assert.equal(headers['access-control-allow-origin'], undefined);
            assert.equal(headers.vary, 'Origin');
            assert.equal(body, '{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.","website":"https://peerjs.com/"}');
        });

        test('peers are not told unless it is allowed', limit, async () => {
            const { status, headers, body } = await http(server, 'GET', '/peerjs/peers');
            assert.equal(status, 401);
            assert.equal(headers['content-type'], 'text/plain; charset=utf-8');
            assert.equal(body, 'Unauthorized');
            const open = await start(world, { allow_discovery: true });
            assert.equal((await http(open, 'GET', '/peerjs/peers')).body, '[]');
            const clients = [await Client.join(open, 'a'), await Client.join(open, 'b "ä')];
            const answer = await http(open, 'GET', '/other-key/peers');
            assert.equal(answer.status, 200);
            assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
            assert.deepEqual(JSON.parse(answer.body).sort(), ['a', 'b "ä']);
            for (const client of clients) await client.close();
            await until(5000, 'an empty list', async () => (await http(open, 'GET', '/peerjs/peers')).body === '[]');
        });

        test('other requests', limit, async () => {
            for (const [method, path, status] of [
                ['HEAD', '/peerjs/id', 200], ['HEAD', '/', 200], ['POST', '/peerjs/id', 404], ['PUT', '/', 404], ['DELETE', '/peerjs/peers', 404],
                ['GET', '/peerjs', 404], ['GET', '/peerjs/', 404], ['GET', '/a/b/c', 404], ['GET', '/peerjs/id/x', 404], ['GET', '/metrics', 404],
                ['GET', '/%00', 404], ['GET', '/..%2f..', 404],
            ]) {
                const answer = await http(server, method, path, { Origin: 'x' });
                assert.equal(answer.status, status, `${method} ${path}`);
                assert.equal(answer.headers['access-control-allow-origin'], 'x');
                if (status === 404) {
                    assert.equal(answer.headers['content-type'], 'text/html; charset=utf-8');
                    assert.equal(answer.headers['content-security-policy'], "default-src 'none'");
                    assert.equal(answer.headers['x-content-type-options'], 'nosniff');
                }
                if (method === 'HEAD') assert.equal(answer.body, '');
            }
        });

        test('OPTIONS allows what pages ask for', limit, async () => {
            for (const path of ['/', '/peerjs/id', '/nowhere']) {
                const { status, headers, body } = await http(server, 'OPTIONS', path, { Origin: 'o', 'Access-Control-Request-Headers': 'x-a, x-b' });
                assert.equal(status, 204);
                assert.equal(body, '');
                assert.equal(headers['access-control-allow-origin'], 'o');
                assert.equal(headers['access-control-allow-methods'], 'GET,HEAD,PUT,PATCH,POST,DELETE');
                assert.equal(headers['access-control-allow-headers'], 'x-a, x-b');
                assert.equal(headers.vary, 'Origin, Access-Control-Request-Headers');
            }
        });

        test('requests that are none', limit, async () => {
            const strict = [['GET / HTTP/1.1\r\n\r\n', 400], ['GET / HTTP/1.1\r\nHost : h\r\n\r\n', 400]];
            for (const [text, status] of [
                ...(name === 'datapeer' || strictNode ? strict : []),
                ['nonsense\r\n\r\n', 400],
                ['GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
                ['GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 400],
                [`GET / HTTP/1.1\r\nHost: h\r\nX: ${'x'.repeat(20000)}\r\n\r\n`, 431],
            ])
                assert.match(await raw(server, text), new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(text.slice(0, 60)));
        });

        test('upgrades that are none', limit, async () => {
            const good = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' };
            const { status, headers } = await http(server, 'GET', '/peerjs', good);
            assert.equal(status, 101);
            assert.equal(headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=');
            assert.equal(headers['sec-websocket-extensions'], undefined);
            for (const [change, expected, method = 'GET', path = '/peerjs'] of [
                [{ 'Sec-WebSocket-Key': 'short' }, 400],
                [{ 'Sec-WebSocket-Version': '7' }, 400],
                [{}, 405, 'POST'],
                [{}, 400, 'GET', '/elsewhere'],
                [{}, 400, 'GET', '/peerjs/'],
                [{}, 400, 'GET', '/PeerJS'],
            ])
                assert.equal((await http(server, method, path, { ...good, ...change })).status, expected, JSON.stringify([change, method, path]));
        });

        test('no id, token or key, or a wrong one', limit, async () => {
            const missing = error('No id, token, or key supplied to websocket server');
            for (const [query, expected] of [
                ['', missing], ['key=peerjs&id=a', missing], ['key=peerjs&id=&token=t', missing], ['id=a&token=t', missing],
                ['key=other&id=a&token=t', error('Invalid key provided')], ['key=peerjs&key=other&id=a&token=t', error('Invalid key provided')],
            ]) {
                const client = new Client(server, query);
                assert.equal(await client.next(), expected, query);
                assert.equal(await client.closed, 1005);
            }
        });

        test('an id is for one client', limit, async () => {
            const holder = await Client.join(server, 'holder', 'secret');
            const thief = new Client(server, 'key=peerjs&id=holder&token=guess');
            assert.equal(await thief.next(), '{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}');
            assert.equal(await thief.closed, 1005);
            assert.deepEqual(await holder.sync('holder'), []);
            await holder.close();
            await (await Client.join(server, 'holder', 'guess')).close();
        });

        test('the same token takes the id over', limit, async () => {
            const old = await Client.join(server, 'again', 'mine');
            const other = await Client.join(server, 'other');
            const fresh = new Client(server, 'key=peerjs&id=again&token=mine');
            // Ours says OPEN, without which PeerJS' reconnect() waits for ever, and closes the old socket.
            if (name === 'datapeer') {
                assert.equal(await fresh.next(), '{"type":"OPEN"}');
                assert.equal(await old.closed, 1000);
            }
            await new Promise((resolve) => (fresh.socket.readyState === WebSocket.OPEN ? resolve() : fresh.socket.on('open', resolve)));
            assert.deepEqual(await fresh.sync('again'), []);
            other.send({ type: 'OFFER', dst: 'again', payload: 1 });
            assert.equal(await fresh.next(), '{"type":"OFFER","src":"other","dst":"again","payload":1}');
            for (const client of [old, other, fresh]) await client.close();
        });

        test('messages: what is passed on, and how', limit, async () => {
            const [a, b] = [await Client.join(server, 'alice'), await Client.join(server, 'b "öb')];
            const dst = 'b "öb';
            for (const type of ['OFFER', 'ANSWER', 'CANDIDATE', 'LEAVE', 'EXPIRE']) {
                a.send({ dst, payload: { sdp: { sdp: 'v=0\r\n', type: 'offer' }, n: [1, null, '\u0000ü'] }, src: 'eve', more: 1, type });
                assert.equal(await b.next(), JSON.stringify({ type, src: 'alice', dst, payload: { sdp: { sdp: 'v=0\r\n', type: 'offer' }, n: [1, null, '\u0000ü'] } }));
                a.send({ type, dst });
                assert.equal(await b.next(), JSON.stringify({ type, src: 'alice', dst }));
            }
            for (const nonsense of ['[]', '[[[]]]', '{}', '{"type":1}', '{"type":"OPEN","dst":"alice"}', '{"type":"ID-TAKEN","dst":"alice"}', '{"type":"ERROR","dst":"alice"}',
                '{"type":"nonsense","dst":"alice"}', '{"type":"OFFER"}', '{"type":"HEARTBEAT","dst":"alice"}', '{"type":"OFFER","dst":""}', '{"type":"OFFER","dst":null}'])
                a.send(nonsense);
            for (const broken of ['', 'null', '5', '{', '"x"', '{"type":"OFFER","dst":"alice"} x']) a.send(broken);
            assert.deepEqual(await a.sync('alice'), []);
            a.socket.send(Buffer.from(JSON.stringify({ type: 'OFFER', dst: 'alice' })), { binary: true });
            assert.equal(await a.next(), '{"type":"OFFER","src":"alice","dst":"alice"}');
            assert.deepEqual(b.messages, []);
            for (const client of [a, b]) await client.close();
        });

        test('many messages keep their order', limit, async () => {
            const [a, b] = [await Client.join(server, 'fast'), await Client.join(server, 'sink')];
            for (let i = 0; i < 2000; i++) a.send({ type: 'CANDIDATE', dst: 'sink', payload: i });
            for (let i = 0; i < 2000; i++) assert.equal(JSON.parse(await b.next()).payload, i);
            for (const client of [a, b]) await client.close();
        });

        test('an absent peer gets its messages when it comes', limit, async () => {
            const a = await Client.join(server, 'early');
            a.send({ type: 'OFFER', dst: 'late', payload: 1 });
            a.send({ type: 'LEAVE', dst: 'late' });
            a.send({ type: 'CANDIDATE', dst: 'late', payload: 2 });
            assert.deepEqual(await a.sync('early'), []);
            const b = await Client.join(server, 'late');
            assert.equal(await b.next(), '{"type":"OFFER","src":"early","dst":"late","payload":1}');
            assert.equal(await b.next(), '{"type":"CANDIDATE","src":"early","dst":"late","payload":2}');
            for (const client of [a, b]) await client.close();
        });

        test('an absent peer that does not come: EXPIRE, once for each sender', limit, async () => {
            const quick = await start(world, { expire_timeout: 300 });
            const [a, b] = [await Client.join(quick, 'a'), await Client.join(quick, 'b')];
            for (const client of [a, a, b]) client.send({ type: 'OFFER', dst: 'nobody' });
            assert.equal(await a.next(), '{"type":"EXPIRE","src":"nobody","dst":"a"}');
            assert.equal(await b.next(), '{"type":"EXPIRE","src":"nobody","dst":"b"}');
            assert.deepEqual(await a.sync('a'), []);
            a.send({ type: 'OFFER', dst: 'nobody' }); // and again
            assert.equal(await a.next(), '{"type":"EXPIRE","src":"nobody","dst":"a"}');
            for (const client of [a, b]) await client.close();
        });

        test('LEAVE without a destination frees the id', limit, async () => {
            const a = await Client.join(server, 'leaver', '1');
            a.send({ type: 'LEAVE' });
            let b;
            await until(5000, 'the id', async () => {
                b = new Client(server, 'key=peerjs&id=leaver&token=2');
                return (await b.next()) === '{"type":"OPEN"}';
            });
            assert.equal(a.socket.readyState, WebSocket.OPEN);
            await b.close();
            await a.close();
        });

        test('who sends no heartbeat is closed, other messages or not', limit, async () => {
            const quick = await start(world, { alive_timeout: 1500 });
            const [dead, alive] = [await Client.join(quick, 'dead'), await Client.join(quick, 'alive')];
            const beat = setInterval(() => {
                alive.send({ type: 'HEARTBEAT' });
                if (dead.socket.readyState === WebSocket.OPEN) dead.send({ type: 'CANDIDATE', dst: 'dead' });
            }, 300);
            assert.equal(await within(10000, 'the end', dead.closed), 1005);
            clearInterval(beat);
            assert.deepEqual(await alive.sync('alive'), []);
            await alive.close();
        });

        test('no more clients than allowed', limit, async () => {
            const small = await start(world, { concurrent_limit: 1 });
            const a = await Client.join(small, 'a');
            const b = new Client(small, 'key=peerjs&id=b&token=t');
            assert.equal(await b.next(), error('Server has reached its concurrent user limit'));
            assert.equal(await b.closed, 1005);
            await a.close();
        });

        test('a path and a key of its own', limit, async () => {
            const other = await start(world, { path: '/my/app', key: 'sesame' });
            for (const [path, status] of [['/my/app', 200], ['/my/app/', 200], ['/my/app/sesame/id', 200], ['/my/app/peerjs/id', 200], ['/', 404], ['/peerjs/id', 404], ['/my/apple', 404]])
                assert.equal((await http(other, 'GET', path)).status, status, path);
            const client = new Client(other, 'key=sesame&id=a&token=t', '/my/app/peerjs');
            assert.equal(await client.next(), '{"type":"OPEN"}');
            const lost = new Client(other, 'key=sesame&id=b&token=t');
            await lost.closed;
            assert.match(lost.error.message, /400/);
            await client.close();
        });

        test('a broken frame ends its own socket only', limit, async () => {
            const [a, b] = [await Client.join(server, 'broken'), await Client.join(server, 'whole')];
            a.socket._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0])); // a reserved opcode
            assert.equal(await a.closed, 1002);
            const c = await Client.join(server, 'text');
            c.socket._socket.write(Buffer.from([0x81, 0x81, 0, 0, 0, 0, 0xff])); // no UTF-8
            assert.equal(await c.closed, 1007);
            assert.deepEqual(await b.sync('whole'), []);
            b.socket.ping('x');
            await within(5000, 'a pong', new Promise((resolve) => b.socket.once('pong', resolve)));
            await b.close();
        });
    });
}

describe('what only ours does', () => {
    test('Ctrl-C tells the clients, and the port is free again', limit, async () => {
        const server = await SERVERS.datapeer(world);
        const a = await Client.join(server, 'a');
        server.program.child.kill('SIGINT');
        assert.equal(await a.closed, 1001);
        assert.deepEqual(await server.program.exited, { code: 0, signal: null });
        const again = await SERVERS.datapeer(world, {}, ['--port', String(server.port)]);
        assert.equal(again.port, server.port);
        assert.deepEqual(await again.program.stop(), { code: 0, signal: null });
    });

    test('health and metrics', limit, async () => {
        const server = await SERVERS.datapeer(world, { metrics: true });
        assert.equal((await http(server, 'GET', '/healthz')).body, 'ok\n');
        const a = await Client.join(server, 'a');
        a.send({ type: 'OFFER', dst: 'a' });
        await a.next();
        const { headers, body } = await http(server, 'GET', '/metrics');
        assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
        assert.match(body, /^datapeer_signal_clients 1$/m);
        assert.match(body, /^datapeer_signal_relayed_messages_total 1$/m);
        await a.close();
    });

    test('TLS by a certificate file', limit, async () => {
        const folder = await world.temporaryFolder();
        const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
        execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost',
            '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert], { stdio: 'ignore' });
        await chmod(key, 0o600);
        const server = await SERVERS.datapeer(world, { 'tls-cert': cert, 'tls-key': key });
        const options = { ca: await readFile(cert), servername: 'localhost' };
        const body = await new Promise((resolve, reject) => {
            get({ host: '127.0.0.1', port: server.port, path: '/peerjs/id', agent: false, ...options }, (response) => response.on('data', (data) => resolve(String(data)))).on('error', reject);
        });
        assert.equal(body.length, 36);
        const socket = new WebSocket(`wss://127.0.0.1:${server.port}/peerjs?key=peerjs&id=a&token=t`, options);
        const next = () => within(10000, 'a message', new Promise((resolve) => socket.once('message', (data) => resolve(String(data)))));
        assert.equal(await next(), '{"type":"OPEN"}');
        socket.send(JSON.stringify({ type: 'OFFER', dst: 'a', payload: 'x'.repeat(50000) }));
        assert.equal(JSON.parse(await next()).payload.length, 50000);
        const closed = new Promise((resolve) => socket.on('close', resolve));
        server.program.child.kill('SIGTERM');
        assert.equal(await closed, 1001);
        assert.equal((await server.program.exited).code, 0);
    });

    test('wrong use and a taken port are said', limit, async () => {
        const server = await SERVERS.datapeer(world);
        for (const [args, code] of [[['--port', 'x'], 2], [['--path', 'x'], 2], [['extra'], 2], [['--tls-cert', '/nowhere'], 2], [['--tls-cert', '/nowhere', '--tls-key', '/nowhere'], 1],
            [['--host', '127.0.0.1', '--port', String(server.port)], 3], [['--access-token-file', '/nowhere'], 1]]) {
            await assert.rejects(SERVERS.datapeer(world, {}, args), (error) => error.message.includes(`ended (${code})`), args.join(' '));
        }
    });
});

// What a Peer itself asks of ours; calls are made through both servers in calls.test.mjs and serves.test.mjs.
describe('PeerJS and our PeerServer', () => {
    let server;
    before(async () => (server = await SERVERS.datapeer(world, { allow_discovery: true })));

    for (const [name, version] of PAGES) {
        test(`${name}, PeerJS ${version}: ids, a call, a way back`, limit, async () => {
            const { browser } = await world.browser(name);
            const [one, two] = [await world.page(browser, version, server), await world.page(browser, version, server)];
            const open = (page, id) => page.evaluate(([id, port]) => new Promise((resolve, reject) => {
                window.peer = new Peer(id, { host: '127.0.0.1', port, path: '/', config: { iceServers: [] } });
                peer.on('open', resolve);
                peer.on('error', (error) => reject(new Error(error.type)));
            }), [id, server.port]);
            const id = await open(one, undefined);
            assert.match(id, /^[0-9a-f-]{36}$/);
            const own = `${name}-${version.replaceAll('.', '-')}`;
            assert.equal(await open(two, own), own);
            await assert.rejects(open(await world.page(browser, version, server), own), /unavailable-id/);
            const ids = await two.evaluate(() => new Promise((resolve) => peer.listAllPeers(resolve)));
            assert.ok(ids.includes(id) && ids.includes(own));
            const missing = await one.evaluate(() => new Promise((resolve) => {
                peer.once('error', (error) => resolve(error.type));
                peer.connect('nobody-at-all');
            }));
            assert.equal(missing, 'peer-unavailable');
            await two.evaluate(() => peer.on('connection', (conn) => conn.on('data', (data) => conn.send(`${data}!`))));
            const echo = await one.evaluate((to) => new Promise((resolve) => {
                const conn = peer.connect(to);
                conn.on('open', () => conn.send('hello'));
                conn.on('data', resolve);
            }), own);
            assert.equal(echo, 'hello!');
            // PeerJS' own way back: the same id and token, and with ours an OPEN.
            const again = await one.evaluate(() => new Promise((resolve) => {
                peer.disconnect();
                peer.once('open', resolve);
                peer.reconnect();
            }));
            assert.equal(again, id);
            await browser.close();
        });
    }
});
