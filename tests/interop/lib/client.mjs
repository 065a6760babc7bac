// What speaks with a PeerServer in a test: HTTP requests, and a WebSocket client as PeerJS's.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import WebSocket from 'ws';
import { within } from './world.mjs';

// {status, headers, body}
export function http(server, method, path, headers = {}) {
    return new Promise((resolve, reject) => {
        const options = { host: '127.0.0.1', port: server.port, method, path, headers, agent: false };
        const sent = request(options, (response) => {
            let body = '';
            response.on('data', (data) => (body += data));
            response.on('end', () => resolve({ status: response.statusCode, headers: response.headers, body }));
        });
        sent.on('error', reject);
        sent.on('upgrade', (response, socket) => {
            socket.destroy();
            resolve({ status: response.statusCode, headers: response.headers, body: '' });
        });
        sent.end();
    });
}

export class Client {
    #waiting = [];
    messages = [];

    constructor(server, query, path = '/peerjs') {
        this.socket = new WebSocket(`ws://127.0.0.1:${server.port}${path}?${query}`);
        this.closed = new Promise((resolve) => this.socket.on('close', resolve)); // the code
        this.socket.on('error', (error) => (this.error = error));
        this.socket.on('message', (data) => {
            const waiter = this.#waiting.shift();
            if (waiter) waiter(String(data));
            else this.messages.push(String(data));
        });
    }

    // One that has joined.
    static async join(server, id, token = 't') {
        const client = new Client(server, `key=peerjs&id=${encodeURIComponent(id)}&token=${token}&version=1.5.5`);
        assert.equal(await client.next(), '{"type":"OPEN"}');
        return client;
    }

    next() {
        if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
        return within(10000, 'a message', new Promise((resolve) => this.#waiting.push(resolve)));
    }

    send(message) {
        this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
    }

    // Waits until all that was sent before is handled: a message to oneself comes back behind everything else.
    async sync(id) {
        this.send({ type: 'CANDIDATE', dst: id, payload: 'sync' });
        const before = [];
        for (;;) {
            const message = await this.next();
            if (message === JSON.stringify({ type: 'CANDIDATE', src: id, dst: id, payload: 'sync' })) return before;
            before.push(message);
        }
    }

    async close() {
        this.socket.close();
        await this.closed;
    }
}
