// `datapeer signal --stun` and `serve --stun`, asked by browsers, by coturn's client and by our own command. (Behind real NATs: tests/netns.)
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { gather } from './lib/gather.mjs';
import { SERVERS } from './lib/servers.mjs';
import { BROWSERS, build, DEADLINE, until, within, World } from './lib/world.mjs';

const limit = { timeout: 120000 };
const CLIENT = '/usr/bin/turnutils_stunclient';
const counter = async (server, name) => {
    const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
    return Number(new RegExp(`^datapeer_stun_${name}_total (\\d+)$`, 'm').exec(text)[1]);
};
const own = Object.values(networkInterfaces()).flat().find(({ internal, family }) => !internal && family === 'IPv4')?.address;

describe('our STUN server', () => {
    const world = new World();
    let server, port;

    before(async () => {
        const args = ['signal', '--host', '0.0.0.0', '--port', '0', '--metrics', '--stun=0'];
        const program = await world.program(join(build, 'datapeer'), args, { ready: (line) => line.endsWith(' (STUN)') });
        const ports = program.lines.map((line) => Number(/^listening on 0\.0\.0\.0:(\d+)/.exec(line)[1]));
        server = { port: ports[0], url: `ws://127.0.0.1:${ports[0]}` };
        port = ports[1];
    });
    after(() => world.close());

    // Firefox asks no server at a loopback address, and each of them hides what is its own address behind a name, so both tell of this.
    for (const name of BROWSERS) {
        test(`gives ${name} its server-reflexive candidate`, { ...limit, skip: own ? false : 'this machine has no address but loopback' }, async () => {
            const { browser } = await world.browser(name);
            const page = await browser.newPage();
            const candidates = await page.evaluate(gather, `stun:${own}:${port}`);
            assert.match(candidates.at(-1), new RegExp(` ${own.replaceAll('.', '\\.')} \\d+ typ srflx `), candidates.join('\n'));
            assert.equal(await counter(server, 'refused'), 0);
        });
    }

    test("tells coturn's client its address", { ...limit, skip: existsSync(CLIENT) ? false : `there is no ${CLIENT}: run scripts/deps` }, async () => {
        for (const asked of ['127.0.0.1', '127.0.0.2']) { // it must be answered from there
            const { stdout, stderr } = await promisify(execFile)(CLIENT, ['-p', String(port), asked], { timeout: DEADLINE });
            assert.match(stdout + stderr, /UDP reflexive addr: 127\.0\.0\.1:\d+/);
        }
    });

    test('is asked by our own command', limit, async () => {
        const folder = await world.temporaryFolder();
        await writeFile(join(folder, 'file'), 'content');
        const args = ['serve', folder, '--id', 'asks', '--server', server.url, '-v', '-v', '--ice-server', `stun:127.0.0.1:${port}`];
        await world.program(join(build, 'datapeer'), args, { ready: (line) => line.includes('asks') });
        const before = await counter(server, 'answered');
        const get = ['get', 'asks:file', '-o', '-', '--server', server.url, '--ice-server', `stun:127.0.0.1:${port}`];
        const { stdout } = await promisify(execFile)(join(build, 'datapeer'), get, { timeout: DEADLINE });
        assert.equal(stdout, 'content');
        assert.ok((await counter(server, 'answered')) >= before + 2, 'both ends have asked');
    });

    test('is silent to what is no question, and goes on', limit, async () => {
        const socket = createSocket('udp4').bind(0, '127.0.0.1').unref();
        await once(socket, 'listening');
        const heard = [];
        socket.on('message', (answer) => heard.push(answer));
        const request = Buffer.from('000100002112a442000102030405060708090a0b', 'hex');
        const hostile = [Buffer.alloc(0), Buffer.from('GET / HTTP/1.1\r\n\r\n'), request.subarray(0, 19), Buffer.alloc(1500, 0xff)];
        hostile.push(Buffer.from(request).fill(0x11, 1, 2), Buffer.from(request).fill(0, 4, 8)); // an indication; RFC 3489
        for (const datagram of hostile) socket.send(datagram, port, '127.0.0.1');
        socket.send(request, port, '127.0.0.1');
        await within(DEADLINE, 'an answer', once(socket, 'message'));
        assert.deepEqual(heard.map((answer) => answer.length), [32]);
        assert.equal(await counter(server, 'dropped'), hostile.length);
        socket.close();
    });
});

// A UDP port that is free now.
async function freePort() {
    const socket = createSocket('udp4').bind(0, '127.0.0.1');
    await once(socket, 'listening');
    const { port } = socket.address();
    socket.close();
    return port;
}

test('datapeer serve --stun: the page asks who has served it', limit, async (t) => {
    const world = new World();
    t.after(() => world.close());
    const folder = await world.temporaryFolder();
    await writeFile(join(folder, 'file'), 'content');
    const port = await freePort();
    const home = await world.home(folder, 'home', ['--metrics', `--stun=${port}`]);
    assert.ok(home.program.lines.includes(`listening on 127.0.0.1:${port} (STUN)`));
    const config = await (await fetch(`http://127.0.0.1:${home.port}/config.json`)).json();
    assert.deepEqual(config, { iceServers: [], stunPort: port });
    const { browser } = await world.chromium();
    const page = await browser.newPage();
    await page.goto(home.page);
    await page.locator('.entry', { hasText: 'file' }).waitFor();
    await until(DEADLINE, 'its question', async () => (await counter(home, 'answered')) > 0);
});

describe('its options', () => {
    const world = new World();
    after(() => world.close());

    test('a port that is taken', limit, async () => {
        const socket = createSocket('udp4').bind(0, '127.0.0.1').unref();
        await once(socket, 'listening');
        const { port } = socket.address();
        const failed = await promisify(execFile)(join(build, 'datapeer'), ['signal', '--host', '127.0.0.1', '--port', '0', `--stun=${port}`], { timeout: DEADLINE })
            .then(() => assert.fail('it runs'), (error) => error);
        assert.equal(failed.code, 3);
        assert.match(failed.stderr, new RegExp(`127\\.0\\.0\\.1:${port} .*--stun=PORT`));
        socket.close();
    });

    test('a port that is none', limit, async () => {
        const failed = await promisify(execFile)(join(build, 'datapeer'), ['signal', '--stun=x'], { timeout: DEADLINE }).then(() => assert.fail('it runs'), (error) => error);
        assert.equal(failed.code, 2);
        assert.match(failed.stderr, /--stun must be a number/);
    });

    test('without --stun there is none', limit, async () => {
        const server = await SERVERS.datapeer(world, { metrics: true });
        const text = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
        assert.doesNotMatch(text, /stun/);
    });
});
