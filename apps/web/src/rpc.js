// Requests and answers over one PeerJS DataConnection. Both ways the same "context" travels:
//   {action, request: {id, body}, response: {headers?: {contentType}, body: {code, data, message}}}
// An answer that streams sends it several times, with data = {type: "start" | "chunk" | "end", chunk: bytes}.

const OCTET_STREAM = 'application/octet-stream';

export class RpcError extends Error {
    // code: as in HTTP; 0 if no answer came (kind says why: "lost" or "timeout").
    constructor(code, message, kind = 'answer') {
        super(message);
        this.name = 'RpcError';
        this.code = code;
        this.kind = kind;
    }
}

export class Rpc {
    #conn;
    #timeout;
    #pending = new Map(); // request id -> {resolve, reject, onPiece, timer, ...}
    #lost = null;

    // timeout: milliseconds without an answer or a new piece.
    constructor(conn, { timeout = 30000 } = {}) {
        this.#conn = conn;
        this.#timeout = timeout;
        conn.on('data', (context) => this.#receive(context));
    }

    // Resolves with the answer's data.
    request(action, body, { signal } = {}) {
        return this.#start(action, body, signal, null);
    }

    // Hands each piece of an octet stream to onPiece(bytes), in order, and resolves with the number of bytes at its end.
    stream(action, body, onPiece, { signal } = {}) {
        return this.#start(action, body, signal, onPiece);
    }

    // The connection is gone: nothing that waits will be answered any more.
    close(reason = 'The connection was lost.') {
        this.#lost ??= new RpcError(0, reason, 'lost');
        for (const id of [...this.#pending.keys()]) this.#settle(id, 'reject', this.#lost);
    }

    #start(action, body, signal, onPiece) {
        return new Promise((resolve, reject) => {
            if (this.#lost) return reject(this.#lost);
            if (signal?.aborted) return reject(signal.reason);
            const id = uuid();
            const onAbort = () => this.#settle(id, 'reject', signal.reason);
            signal?.addEventListener('abort', onAbort);
            const clean = () => signal?.removeEventListener('abort', onAbort);
            this.#pending.set(id, { resolve, reject, clean, onPiece, received: 0, base: null, started: false });
            this.#restartTimer(id);
            const response = { body: { code: 200, data: null, message: '' } };
            this.#conn.send({ action, request: { id, body }, response });
        });
    }

    #receive(context) {
        const id = context?.request?.id;
        const entry = this.#pending.get(id);
        if (!entry) return; // an answer that nobody waits for any more
        const { headers, body } = context.response ?? {};
        const code = body?.code;
        if (!(code >= 200 && code < 300)) {
            return this.#settle(id, 'reject', new RpcError(Number(code) || 500, String(body?.message ?? '')));
        }
        if (headers?.contentType !== OCTET_STREAM) {
            if (!entry.onPiece) return this.#settle(id, 'resolve', body.data);
            return this.#settle(id, 'reject', new RpcError(501, 'The answer is no octet stream.'));
        }
        try {
            if (this.#takePiece(entry, body.data)) this.#settle(id, 'resolve', entry.received);
            else this.#restartTimer(id);
        } catch (error) {
            this.#settle(id, 'reject', error);
        }
    }

    // True at the end. A piece that is not the next one is an error: better no file than a damaged one.
    #takePiece(entry, piece) {
        if (!entry.onPiece) throw new RpcError(502, 'An octet stream came where none was asked for.');
        if (piece?.type === 'end') {
            if (!entry.started) throw new RpcError(502, 'The stream has no beginning.');
            return true;
        }
        if (piece?.type !== (entry.started ? 'chunk' : 'start')) throw new RpcError(502, 'The stream is out of order.');
        entry.started = true;
        const bytes = toBytes(piece.chunk);
        if (typeof piece.offset === 'number') {
            entry.base ??= piece.offset;
            if (piece.offset !== entry.base + entry.received) throw new RpcError(502, 'The stream is out of order.');
        }
        entry.received += bytes.length;
        if (bytes.length > 0) entry.onPiece(bytes);
        return false;
    }

    #restartTimer(id) {
        const entry = this.#pending.get(id);
        clearTimeout(entry.timer);
        const expire = () => this.#settle(id, 'reject', new RpcError(0, 'The device does not answer.', 'timeout'));
        entry.timer = setTimeout(expire, this.#timeout);
    }

    #settle(id, how, value) {
        const entry = this.#pending.get(id);
        if (!entry) return;
        this.#pending.delete(id);
        clearTimeout(entry.timer);
        entry.clean();
        entry[how](value);
    }
}

// PeerJS delivers bytes as an ArrayBuffer if the message came whole, as a Uint8Array if it came in pieces.
function toBytes(value) {
    if (value instanceof ArrayBuffer) return new Uint8Array(value);
    if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    throw new RpcError(502, 'The stream carries something else than bytes.');
}

// UUID version 4 (RFC 9562 section 5.4). crypto.randomUUID would need https; a storage device in the house has none.
function uuid() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
