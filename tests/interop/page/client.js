// PeerJS as pages use it: a request map on the using side and a router on the storage side, with the wire shape of the
// reference page. Written without our own page's code, so that a common error of both sides shows. Test code calls window.client.

const OCTET_STREAM = 'application/octet-stream';

class Connection {
    constructor(conn) {
        this.conn = conn;
        this.pending = new Map(); // request id -> {resolve, reject, pieces}
        this.inbox = []; // messages that answer no request
        this.takers = [];
        this.closed = new Promise((resolve) => conn.on('close', resolve));
        this.opened = new Promise((resolve, reject) => {
            conn.on('open', resolve);
            conn.on('error', reject);
        });
        conn.on('data', (value) => this.receive(value));
        this.closed.then(() => {
            for (const { reject } of this.pending.values()) reject(new Error('closed'));
            this.pending.clear();
        });
    }

    receive(value) {
        const entry = this.pending.get(value?.request?.id);
        if (entry) return this.answer(entry, value);
        const taker = this.takers.shift();
        if (taker) taker(value);
        else this.inbox.push(value);
    }

    answer(entry, context) {
        const { headers, body } = context.response;
        if (headers?.contentType === OCTET_STREAM && body.code === 200) {
            if (body.data.type !== 'end') return entry.pieces.push(bytesOf(body.data.chunk));
            entry.resolve({ context, pieces: entry.pieces });
        } else {
            entry.resolve({ context });
        }
        this.pending.delete(context.request.id);
    }

    // Resolves with {context, pieces?}.
    call(action, body) {
        return new Promise((resolve, reject) => {
            const id = crypto.randomUUID();
            this.pending.set(id, { resolve, reject, pieces: [] });
            this.conn.send({ action, request: { id, body }, response: { body: { code: 200, data: null, message: '' } } });
        });
    }

    // The response's body.
    async request(action, body) {
        return (await this.call(action, body)).context.response.body;
    }

    async stream(action, body) {
        const { pieces } = await this.call(action, body);
        const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
        return { length: bytes.length, sha256: await sha256(bytes) };
    }

    send(value) {
        this.conn.send(value);
    }

    next() {
        if (this.inbox.length > 0) return Promise.resolve(this.inbox.shift());
        return new Promise((resolve) => this.takers.push(resolve));
    }
}

// The storage side of INTEROP.md part 3.
const actions = {
    echo: async (body) => body,
    slow: (body) => new Promise((resolve) => setTimeout(() => resolve(body.value), body.ms)),
    digest: async (body) => {
        const bytes = bytesOf(body.data);
        return { length: bytes.length, sha256: await sha256(bytes) };
    },
    bytes: async (body) => pattern(body.size, body.seed),
};

async function serve(connection, context) {
    const { conn } = connection;
    const { action, request, response } = context;
    if (action === 'error') {
        Object.assign(response.body, { code: 500, message: 'boom' });
    } else if (action === 'close') {
        response.body.data = 'closing';
        setTimeout(() => conn.close(), 200);
    } else if (action === 'file') {
        const { size, seed, chunk } = request.body;
        const bytes = pattern(size, seed);
        const piece = (type, part) => {
            response.headers = { contentType: OCTET_STREAM };
            response.body.data = { type, chunk: part };
            conn.send(context);
        };
        piece('start', bytes.slice(0, chunk));
        for (let at = chunk; at < size; at += chunk) piece('chunk', bytes.slice(at, at + chunk));
        return piece('end', new Uint8Array(0));
    } else if (actions[action]) {
        response.body.data = await actions[action](request.body);
    } else {
        Object.assign(response.body, { code: 404, message: `unknown action ${action}` });
    }
    conn.send(context);
}

class Client {
    connections = [];
    incoming = [];
    #takers = [];

    // Resolves with the own id. With storage: true incoming connections are served, else they are kept for accept().
    open({ id, storage = false } = {}) {
        const where = new URLSearchParams(location.search);
        const [host, port] = [where.get('host') ?? '127.0.0.1', Number(where.get('port'))];
        const secure = where.has('secure');
        this.peer = new Peer(id, { host, port, secure, path: '/', debug: 0, config: { iceServers: [] } });
        this.peer.on('connection', (conn) => {
            const connection = new Connection(conn);
            const index = this.connections.push(connection) - 1;
            if (storage) this.#serveAll(connection);
            const taker = this.#takers.shift();
            if (taker) taker(index);
            else this.incoming.push(index);
        });
        return new Promise((resolve, reject) => {
            this.peer.on('open', resolve);
            this.peer.on('error', reject);
        });
    }

    // Resolves with the connection's index when it is open.
    async connect(id, options) {
        const connection = new Connection(this.peer.connect(id, options));
        const index = this.connections.push(connection) - 1;
        const failed = new Promise((_, reject) => this.peer.on('error', reject));
        await Promise.race([connection.opened, failed]);
        return index;
    }

    // Resolves with the index of the next incoming connection when that is open.
    async accept() {
        const index = this.incoming.shift() ?? (await new Promise((resolve) => this.#takers.push(resolve)));
        await this.connections[index].opened;
        return index;
    }

    // As the reference page does, with answers for what it leaves open; what is no context goes back as it is.
    #serveAll(connection) {
        connection.receive = (value) => {
            const isContext = value?.request?.id !== undefined && value?.response?.body !== undefined;
            if (isContext) serve(connection, value);
            else connection.conn.send(value);
        };
    }
}

function bytesOf(value) {
    return value instanceof Uint8Array ? value : new Uint8Array(value);
}

async function sha256(bytes) {
    const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

// byte i = (h >> 24) ^ (h >> 11), h = (i + seed * 7919) * 0x9E3779B1, all modulo 2^32
function pattern(length, seed) {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
        const h = Math.imul(i + Math.imul(seed, 7919), 0x9e3779b1) >>> 0;
        bytes[i] = (h >>> 24) ^ (h >>> 11);
    }
    return bytes;
}

// JSON in which bytes and what JSON lacks can be told apart: for comparing what was sent with what came.
function describe(value) {
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
        const bytes = value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
        return { bytes: Array.from(bytes).join(' ') };
    }
    if (Array.isArray(value)) return value.map(describe);
    if (value !== null && typeof value === 'object') return { object: Object.entries(value).map(([key, item]) => [key, describe(item)]) };
    if (typeof value === 'number') return { number: Object.is(value, -0) ? '0' : String(value) };
    return value ?? null;
}

window.client = new Client();
Object.assign(window.client, { pattern, sha256, describe, bytesOf });
