// The way to one device: a PeerJS Peer and its DataConnection, made anew whenever they are lost.
import { Peer } from 'peerjs';
import { Rpc } from './rpc.js';

const CONNECT_TIMEOUT = 20000;
const BACKOFF = [1000, 2000, 4000, 8000, 15000, 30000];

// States, as events of the same name: "connecting", "connected", and "waiting" with detail {problem, retryAt}.
// problem: "lost" (was connected before), "offline" (no such device at the PeerServer), "server" (PeerServer not reached),
// "refused" (it lets only some in), "blocked" (found, but no connection comes about), "unsupported" (this browser cannot; no retry).
export class Link extends EventTarget {
    state = 'connecting';
    problem = '';
    rpc = null;
    #id;
    #options;
    #peer = null;
    #conn = null;
    #attempt = 0;
    #timer = 0;
    #closed = false;
    #online = () => this.state === 'waiting' && this.retry();

    constructor(id, options) {
        super();
        this.#id = id;
        this.#options = options;
        window.addEventListener('online', this.#online);
        this.#connect();
    }

    // Now, instead of when the pause is over.
    retry() {
        if (this.#closed || this.state === 'connected') return;
        this.#connect();
    }

    close() {
        this.#closed = true;
        window.removeEventListener('online', this.#online);
        this.#drop();
    }

    // The Rpc of the present or the next connection.
    connected(signal) {
        if (this.rpc) return Promise.resolve(this.rpc);
        return new Promise((resolve, reject) => {
            const options = { once: true, signal };
            this.addEventListener('connected', () => resolve(this.rpc), options);
            signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
        });
    }

    #connect() {
        this.#drop();
        this.#set('connecting');
        const peer = new Peer(this.#options);
        this.#peer = peer;
        this.#timer = setTimeout(() => this.#fail(peer.open ? 'blocked' : 'server'), CONNECT_TIMEOUT);
        // Before its own 'open' a Peer would lose the offer without a word.
        peer.on('open', () => peer === this.#peer && this.#call(peer));
        peer.on('error', (error) => peer === this.#peer && this.#peerError(error));
    }

    #call(peer) {
        // PeerJS's default is unordered: pieces of a file could overtake one another.
        const conn = peer.connect(this.#id, { reliable: true, serialization: 'binary' });
        this.#conn = conn;
        const ours = (fn) => (...args) => conn === this.#conn && fn(...args);
        conn.on('open', ours(() => this.#opened(conn)));
        conn.on('close', ours(() => this.#fail(this.rpc ? 'lost' : 'blocked')));
        conn.on('error', ours((error) => this.#connError(error)));
        // A device that just vanishes sends nothing, and PeerJS then reports nothing: watch the connection itself.
        conn.peerConnection?.addEventListener('connectionstatechange', ours(() => {
            if (conn.peerConnection?.connectionState === 'failed') this.#fail(this.rpc ? 'lost' : 'blocked');
        }));
    }

    #opened(conn) {
        clearTimeout(this.#timer);
        this.#attempt = 0;
        this.rpc = new Rpc(conn);
        this.#set('connected');
    }

    #peerError(error) {
        if (error.type === 'browser-incompatible') return this.#fail('unsupported');
        if (this.rpc) return; // an open connection lives on without the PeerServer
        if (error.type === 'peer-unavailable') return this.#fail('offline');
        if (error.type === 'invalid-key' || /invalid token/i.test(error.message)) return this.#fail('refused');
        this.#fail(error.type === 'webrtc' ? 'blocked' : 'server');
    }

    #connError(error) {
        if (error.type === 'negotiation-failed') this.#fail(this.rpc ? 'lost' : 'blocked');
    }

    #fail(problem) {
        this.#drop();
        if (this.#closed) return;
        const pause = BACKOFF[Math.min(this.#attempt, BACKOFF.length - 1)] * (0.8 + 0.4 * Math.random());
        this.#attempt += 1;
        const retry = problem !== 'unsupported';
        if (retry) this.#timer = setTimeout(() => this.#connect(), pause);
        this.#set('waiting', { problem, retryAt: retry ? Date.now() + pause : null });
    }

    #drop() {
        clearTimeout(this.#timer);
        const { rpc } = this;
        const peer = this.#peer;
        this.rpc = this.#peer = this.#conn = null;
        rpc?.close();
        peer?.destroy();
    }

    #set(state, detail = {}) {
        this.state = state;
        this.problem = detail.problem ?? '';
        this.dispatchEvent(new CustomEvent(state, { detail }));
    }
}
