// What tests of wss need: an authority with certificates of all kinds, npm's PeerServer by TLS, and an HTTP proxy.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from './world.mjs';

const openssl = (args, folder) => execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });

// openssl ca, the only command of OpenSSL 3.0 that takes both dates.
const config = (names) => `
[ca]
default_ca = test
[test]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = leaf
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
subjectAltName = ${names}
`;

export class Authority {
    constructor(folder, name = 'authority') {
        this.folder = join(folder, name);
        mkdirSync(this.folder);
        this.file = join(this.folder, 'ca.pem');
        writeFileSync(join(this.folder, 'index.txt'), '');
        writeFileSync(join(this.folder, 'serial'), '01\n');
        openssl(['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '3650', '-subj', `/CN=${name}`], this.folder);
    }

    // names: "DNS:x, IP:y". Returns {cert, key}, paths.
    issue(label, names, { from = '20200101000000Z', until = '20991231235959Z' } = {}) {
        const path = (suffix) => join(this.folder, `${label}.${suffix}`);
        writeFileSync(path('cnf'), config(names));
        openssl(['req', '-new', '-newkey', 'rsa:2048', '-nodes', '-keyout', path('key'), '-out', path('csr'), '-subj', `/CN=${label}`], this.folder);
        openssl(['ca', '-batch', '-notext', '-config', path('cnf'), '-cert', 'ca.pem', '-keyfile', 'ca.key', '-startdate', from, '-enddate', until, '-in', path('csr'), '-out', path('pem')], this.folder);
        return { cert: path('pem'), key: path('key') };
    }
}

export function selfSigned(folder, names) {
    const [cert, key] = [join(folder, 'self.pem'), join(folder, 'self.key')];
    openssl(['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', cert, '-days', '30', '-subj', '/CN=self', '-addext', `subjectAltName=${names}`], folder);
    return { cert, key };
}

// npm's PeerServer by TLS, of a process of its own. Returns {port, url, secure}.
export async function tlsPeerServer(world, { cert, key }) {
    const script = fileURLToPath(new URL('../drivers/npm_peerserver.mjs', import.meta.url));
    const program = await world.program(process.execPath, [script, JSON.stringify({ ssl: { cert, key } })], { ready: (line) => parse(line)?.port > 0 });
    const { port } = parse(program.lines.at(-1));
    return { port, url: `wss://localhost:${port}/`, secure: true };
}

// A proxy that knows CONNECT alone, and counts. user: "name:password" that it wants; names: {name: port}, hosts that it knows.
export async function proxy(world, { user, names = {} } = {}) {
    const seen = [];
    const server = createServer((request, response) => response.writeHead(405).end());
    server.on('connect', (request, socket, head) => {
        seen.push(request.url);
        socket.on('error', () => {});
        const refuse = (status, field = '') => socket.end(`HTTP/1.1 ${status}\r\n${field}\r\n`);
        const { 'proxy-authorization': given } = request.headers;
        if (user && given !== `Basic ${Buffer.from(user).toString('base64')}`) return refuse('407 Who?', 'Proxy-Authenticate: Basic realm="x"\r\n');
        const port = names[request.url.replace(/:\d+$/, '')];
        if (!port) return refuse('403 No');
        const there = connect(port, '127.0.0.1', () => {
            socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
            there.write(head);
            socket.pipe(there).pipe(socket);
        });
        there.on('error', () => refuse('502 Gone'));
        socket.on('close', () => there.destroy());
    });
    return listen(world, server, seen);
}

// Answers whoever comes with these words, and never again.
export async function mouth(world, words) {
    const server = createTcpServer((socket) => {
        socket.on('error', () => {});
        socket.once('data', () => socket.write(words));
    });
    return listen(world, server, []);
}

// Connections that CONNECT has taken over are nobody's for Node's own closeAllConnections.
async function listen(world, server, seen) {
    const sockets = new Set();
    server.on('connection', (socket) => {
        sockets.add(socket);
        socket.once('close', () => sockets.delete(socket));
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    world.defer(() => {
        server.close();
        for (const socket of sockets) socket.destroy();
    });
    const { port } = server.address();
    return { port, seen, url: (user = '') => `http://${user && `${user}@`}127.0.0.1:${port}` };
}
