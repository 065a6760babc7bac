// SSLKEYLOGFILE: with it Wireshark reads a capture of two programs down to the channel's data, and without it nothing.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { build, parse, root, until, World } from './lib/world.mjs';

const TSHARK = '/usr/bin/tshark';
const CONTENT = 'what nobody else should read';
// ICE may send on IPv6 one way and on IPv4 the other, and Wireshark takes that for two connections.
const ONE_PATH = ['--bind', '127.0.0.1'];
const world = new World();
after(() => world.close());

// A network of our own: capturing needs no rights there, nobody else's packets come, and a batch of datagrams does not pass through
// as one large packet (UDP segmentation offload), which Wireshark takes for one datagram.
const COMMAND = ['unshare', '--map-root-user', '--net', 'sh', '-c', 'ip link set lo up gso_max_segs 1 && echo ready && exec cat'];
const { status, stderr } = spawnSync(COMMAND[0], COMMAND.slice(1), { input: '', encoding: 'utf8' });
const skip = status === 0 ? false : `no network namespaces here: ${stderr?.trim()}`;

async function privateNetwork() {
    const { child } = await world.program(COMMAND[0], COMMAND.slice(1), { ready: (line) => line === 'ready' });
    const enter = ['--preserve-credentials', '--user', '--net', '--target', String(child.pid)];
    return (path, args, options) => world.program('nsenter', [...enter, path, ...args], options);
}

function tshark(...args) {
    return new Promise((resolve) => execFile(TSHARK, args, { maxBuffer: 1e8 }, (error, stdout) => resolve(stdout)));
}

test('Wireshark reads the channel with the keys, and nothing without', { timeout: 90000, skip }, async () => {
    assert.ok(existsSync(TSHARK), `there is no ${TSHARK}: run scripts/deps`);
    const folder = await world.temporaryFolder();
    const [shared, pcap, keys, deviceKeys] = ['shared', 'capture.pcap', 'keys', 'device-keys'].map((name) => join(folder, name));
    await mkdir(shared);
    await writeFile(join(shared, 'file'), CONTENT);

    const start = await privateNetwork();
    const server = await start(process.execPath, [join(root, 'tests/interop/drivers/npm_peerserver.mjs')], { ready: (line) => parse(line)?.port > 0 });
    const url = `ws://127.0.0.1:${parse(server.lines[0]).port}`;
    const env = (file) => ({ PEER_SERVER_URL: url, SSLKEYLOGFILE: file });
    const datapeer = join(build, 'datapeer');
    const device = await start(datapeer, ['serve', shared, '--id', 'logged', ...ONE_PATH], { env: env(deviceKeys), ready: (line) => line.startsWith('serving ') });
    const dumpcap = await start('sh', ['-c', `exec dumpcap -q -i lo -f udp -w '${pcap}' 2>&1`], { ready: (line) => line.startsWith('File:') });
    const get = await start(datapeer, ['get', 'logged:file', '-o', '-', ...ONE_PATH], { env: env(keys), ready: (line) => line === CONTENT });
    await get.exited;

    // Loud on both sides, also without -v; a file for this user alone; and both have written the same.
    for (const [program, file] of [[device, deviceKeys], [get, keys]]) {
        await until(5000, 'the warning', () => program.errors.includes(`SSLKEYLOGFILE is set: whoever reads ${file} can decrypt`));
        assert.equal((await stat(file)).mode & 0o777, 0o600);
        assert.match(await readFile(file, 'utf8'), /^CLIENT_RANDOM [0-9a-f]{64} [0-9a-f]{96}\n$/);
    }
    assert.equal(await readFile(keys, 'utf8'), await readFile(deviceKeys, 'utf8'));

    const read = ['-r', pcap, '-X', `lua_script:${join(root, 'docs/wireshark.lua')}`];
    const decrypt = ['-o', `tls.keylog_file:${keys}`];
    const hex = Buffer.from(CONTENT).toString('hex');
    const payloads = (...args) => tshark(...read, ...args, '-Y', 'sctp', '-T', 'fields', '-e', 'data.data');
    await until(30000, 'the content in the capture', async () => (await payloads(...decrypt)).includes(hex)); // dumpcap is some way behind
    await dumpcap.stop();

    const text = await tshark(...read, ...decrypt, '-V');
    for (const line of ['Message type: DATA_CHANNEL_OPEN_REQUEST', 'Message type: DATA_CHANNEL_ACK', 'Label: dc_', 'Payload protocol identifier: WebRTC Binary'])
        assert.ok(text.includes(line), line);
    const sealed = await tshark(...read, '-V');
    assert.match(sealed, /Encrypted Application Data/);
    assert.doesNotMatch(sealed, /Stream Control Transmission/);
});
