// `datapeer serve` as its own PeerServer: the local network gets answers, strangers get none unless they are meant to.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { build } from '../interop/lib/world.mjs';
import { DEVICE, Internet, limits } from './lib/internet.mjs';
import { CORE } from './lib/net.mjs';

const PAGE = 9000;

// A device at home, a neighbour on its link, a stranger elsewhere; all routers let everything through.
async function people(t) {
    const net = await Internet.create(t);
    const [home, elsewhere] = [await net.site({ nat: 'none' }), await net.site({ nat: 'none' })];
    const [here, neighbour, stranger] = [await net.host('a', home), await net.host('b', home), await net.host('c', elsewhere)];
    const folder = await net.temporaryFolder();
    await writeFile(join(folder, 'file'), 'content');
    const serve = async (options = []) => {
        const args = ['serve', folder, '--id', DEVICE, ...options];
        return here.started(join(build, 'datapeer'), args, { env: { PEER_SERVER_URL: '' }, ready: (line) => line.startsWith('open http://localhost:') });
    };
    return { net, serve, neighbour, stranger };
}

async function ls(host, address) {
    const program = host.start(join(build, 'datapeer'), ['ls', DEVICE, '--server', `ws://${address}:${PAGE}/`]);
    const { code } = await program.exited;
    return { code, text: program.lines.join('\n') };
}

// What an HTTP client on the host gets: the status, or 'closed' without a word.
async function page(host, address) {
    const program = host.start(process.execPath, ['-e', `
        const socket = require('net').connect(${PAGE}, '${address}', () => socket.write('GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'));
        let text = '';
        socket.on('data', (data) => (text += data)).on('error', () => {}).on('close', () => console.log(text === '' ? 'closed' : text.slice(9, 12)));`]);
    await program.exited;
    return program.lines.join('\n');
}

const links = (program) => program.lines.flatMap((line) => /^open (.*)/.exec(line)?.[1] ?? []);

test('the local network, and nobody else', limits, async (t) => {
    const { net, serve, neighbour, stranger } = await people(t);
    const device = await serve();
    assert.deepEqual(links(device), [`http://10.0.1.2:${PAGE}/#${DEVICE}`, `http://localhost:${PAGE}/#${DEVICE}`]);
    for (const address of ['10.0.1.2', '[2001:db8:1::2]']) {
        const { code, text } = await ls(neighbour, address);
        assert.equal(code, 0, text);
        assert.match(text, /file$/);
    }
    assert.equal(await page(neighbour, '2001:db8:1::2'), '200');
    assert.equal(await page(stranger, '2001:db8:1::2'), 'closed');
    assert.equal(await page(net.core, '10.0.1.2'), 'closed'); // which has a public address of IPv4
    assert.equal((await ls(stranger, '[2001:db8:1::2]')).code, 3);
    // It is told once.
    assert.equal(device.lines.filter((line) => line.includes('2001:db8:2::2 is not of the local network')).length, 1);
    assert.ok(!device.lines.some((line) => line.includes(CORE[4])));
});

test('--host lets everybody in', limits, async (t) => {
    const { serve, stranger } = await people(t);
    const device = await serve(['--host', '::']);
    assert.deepEqual(links(device), [`http://[2001:db8:1::2]:${PAGE}/#${DEVICE}`, `http://localhost:${PAGE}/#${DEVICE}`]);
    assert.equal(await page(stranger, '2001:db8:1::2'), '200');
    const { code, text } = await ls(stranger, '[2001:db8:1::2]');
    assert.equal(code, 0, text);
});
