// What people have on the internet and at home: a PeerServer, coturn, a device that serves a file, somebody who gets it.
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { build, parse, root, until, within } from '../../interop/lib/world.mjs';
import { sha256 } from '../../interop/lib/pattern.mjs';
import { CORE, Net, unable } from './net.mjs';

export { CORE };

// Options for every test here. The time is for a slow machine; the longest waits are ICE's own (consent: 30 s).
export const limits = { skip: unable ?? (existsSync('/usr/bin/turnserver') ? false : 'there is no turnserver: run scripts/deps'), timeout: 120000 };

export const STUN = `stun:${CORE[4]}`;
export const USER = 'alice:open sesame';
const SECRET = 'a secret of the service';

export const DEVICE = 'device';

export class Internet extends Net {
    // The device must have lived through it all.
    async close() {
        const how = await this.served?.stop();
        await super.close();
        if (how) assert.equal(how.code, 0, this.served.errors);
    }

    // A PeerServer in the core; family tells by which of its addresses it is called.
    async peerServer(family = 4) {
        const path = join(root, 'tests/interop/drivers/npm_peerserver.mjs');
        await this.core.started(process.execPath, [path, JSON.stringify({ port: 80, host: '::' })], { ready: (line) => parse(line)?.port > 0 });
        this.server = family === 4 ? `ws://${CORE[4]}:80/` : `ws://[${CORE[6]}]:80/`;
    }

    // Our own PeerServer in the core, a STUN server, too: nobody else's program is needed.
    async ownServer() {
        const args = ['signal', '--port', '80', '--metrics', '--stun'];
        await this.core.started(join(build, 'datapeer'), args, { ready: (line) => /^listening on \[::\].* \(STUN\)$/.test(line) });
        this.server = `ws://${CORE[4]}:80/`;
    }

    // A counter of that server, or of another one.
    async counter(name, host = this.core, port = 80) {
        const script = `fetch('http://127.0.0.1:${port}/metrics').then((r) => r.text()).then(console.log)`;
        const text = await host.run(`${process.execPath} -e "${script}"`);
        return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)[1]);
    }

    // coturn in the core: STUN and TURN on 3478 (UDP and TCP), TLS on 443.
    async coturn({ rest = false } = {}) {
        const folder = await this.temporaryFolder();
        const path = (name) => join(folder, name);
        certificate(folder);
        this.authority = path('authority.pem');
        const settings = [
            `listening-ip=${CORE[4]}`, `listening-ip=${CORE[6]}`, `relay-ip=${CORE[4]}`, `relay-ip=${CORE[6]}`,
            'listening-port=3478', 'tls-listening-port=443', 'realm=example.org', `cert=${path('server.pem')}`, `pkey=${path('server.key')}`,
            rest ? `use-auth-secret\nstatic-auth-secret=${SECRET}` : `lt-cred-mech\nuser=${USER}`,
            'no-cli', 'no-dtls', 'no-rfc5780', 'relay-threads=1', `userdb=${path('turndb')}`, `pidfile=${path('turn.pid')}`,
            'log-file=stdout', 'simple-log', 'verbose',
        ];
        await writeFile(path('turn.conf'), settings.join('\n') + '\n');
        let closed = 6; // listeners: UDP, TCP and TLS on two addresses
        const ready = (line) => /listener opened on/.test(line) && --closed === 0;
        return this.core.started('/usr/bin/turnserver', ['-c', path('turn.conf')], { ready });
    }

    // `datapeer serve` on host, sharing one file of so many bytes, which are new for each test. Without a PeerServer it is its own.
    async device(host, options = [], size = 1e6) {
        const folder = await this.temporaryFolder();
        this.content = randomBytes(size);
        await writeFile(join(folder, 'file'), this.content);
        const args = ['serve', folder, '--id', DEVICE, ...(this.server ? ['--server', this.server] : []), '-v', '-v', ...options];
        this.served = await host.started(join(build, 'datapeer'), args, { ready: (line) => line.startsWith('serving ') });
        return this.served;
    }

    // `datapeer get` on host: a download that is under way.
    async get(host, options = [], verbose = ['-v', '-v']) {
        const folder = await this.temporaryFolder();
        const args = ['get', `${DEVICE}:file`, '-o', join(folder, 'got'), '--server', this.server, ...verbose, ...options];
        return new Download(host.start(join(build, 'datapeer'), args), folder, this.content, this.served);
    }
}

// User and password that are good for an hour, as a web service hands them out to use its coturn (use-auth-secret).
export function restUser(secret = SECRET) {
    const name = `${Math.floor(Date.now() / 1000) + 3600}:bob`;
    return `${name}:${createHmac('sha1', secret).update(name).digest('base64')}`;
}

// An authority and the certificate that it gives to the server: PEM files in folder.
export function certificate(folder) {
    const script = `
        openssl req -x509 -days 2 $new -keyout authority.key -out authority.pem -subj "/CN=An authority"
        openssl req -x509 -days 2 $new -keyout server.key -out server.pem -subj "/CN=${CORE.name}" \\
            -addext "subjectAltName=DNS:${CORE.name},IP:${CORE[4]}" -addext basicConstraints=critical,CA:FALSE \\
            -CA authority.pem -CAkey authority.key`;
    const env = { ...process.env, new: '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes' };
    const { status, stderr } = spawnSync('sh', ['-ec', script], { cwd: folder, env, encoding: 'utf8' });
    if (status !== 0) throw new Error(`openssl: ${stderr}`);
}

class Download {
    constructor(program, folder, content, device) {
        this.program = program;
        this.folder = folder;
        this.content = content;
        this.device = device;
    }

    // Resolves when the file is there, whole and right.
    async finished(deadline = 60000) {
        const how = await within(deadline, 'the end of the download', this.program.exited);
        assert.equal(how.code, 0, this.story);
        assert.equal(sha256(await readFile(join(this.folder, 'got'))), sha256(this.content));
        assert.match(this.log, new RegExp(sha256(this.content)));
    }

    // Resolves with the exit code when it has failed; then no part of the file may be left.
    async failed(deadline = 60000) {
        const how = await within(deadline, 'the failure of the download', this.program.exited);
        assert.notEqual(how.code, 0, this.story);
        assert.deepEqual(await readdir(this.folder), []);
        return how.code;
    }

    get log() {
        return this.program.lines.join('\n');
    }

    get story() {
        return `the download:\n${this.log}\nthe device:\n${this.device.errors}`;
    }

    // Where the data goes now, as the one who gets sees it: '10.0.1.2:5000 -> 203.0.113.1:50000'. An address of coturn's is a relay.
    get way() {
        const ways = this.program.lines.map((line) => /ice: sending from (\S+) to (\S+)/.exec(line)).filter(Boolean);
        return ways.map(([, from, to]) => `${from} -> ${to}`).at(-1) ?? 'none';
    }

    async received() {
        const names = await readdir(this.folder);
        const sizes = await Promise.all(names.map(async (name) => (await stat(join(this.folder, name))).size));
        return Math.max(0, ...sizes);
    }

    // So many bytes more than now have come.
    async goesOn(bytes = 1e6, deadline = 60000) {
        const before = await this.received();
        await until(deadline, 'more bytes', async () => (await this.received()) >= before + bytes || !this.program.running);
        assert.ok(this.program.running, `ended too soon: ${this.story}`);
    }
}
