// One file on its way here. Goes on by itself where it stopped when the connection comes back.
import * as disk from './disk.js';
import { RpcError } from './rpc.js';

// Speed is measured over this many milliseconds.
const SPEED_SPAN = 3000;

// States: "running", "waiting" (for the connection), "done", "failed" (error says why), "cancelled". Event: "change".
export class Download extends EventTarget {
    state = 'running';
    error = null;
    received = 0; // bytes that came
    #saved = 0; // bytes that the sink has taken
    #link;
    #sink;
    #mtime = null;
    #abort = new AbortController();
    #samples = [];

    constructor(link, path, entry, sink) {
        super();
        this.path = path;
        this.name = entry.name;
        this.size = entry.size;
        this.#link = link;
        this.#sink = sink;
    }

    get active() {
        return this.state === 'running' || this.state === 'waiting';
    }

    // Bytes a second.
    get speed() {
        const [first] = this.#samples;
        const last = this.#samples.at(-1);
        return first && last.time > first.time ? ((last.received - first.received) * 1000) / (last.time - first.time) : 0;
    }

    cancel() {
        this.#abort.abort(new DOMException('Cancelled', 'AbortError'));
    }

    async run() {
        const { signal } = this.#abort;
        while (this.active) {
            try {
                if (!this.#link.rpc) this.#set('waiting');
                const rpc = await this.#link.connected(signal);
                this.#set('running');
                await this.#transfer(rpc, signal);
                await this.#sink.close();
                this.#set('done');
            } catch (error) {
                if (error.kind !== 'lost') await this.#stop(error);
            }
        }
    }

    async #transfer(rpc, signal) {
        const now = await disk.stat(rpc, this.path, { signal });
        if (this.#mtime !== null && (now.mtime !== this.#mtime || now.size !== this.size)) {
            throw new RpcError(409, 'The file changed on the device while it was being read.');
        }
        this.#mtime = now.mtime;
        this.size = now.size;
        this.received = this.#saved;
        this.#samples = [];
        const onBytes = (count) => this.#count(count);
        for await (const pieces of disk.read(rpc, this.path, this.#saved, this.size, { signal, onBytes })) {
            await this.#sink.write(pieces);
            this.#saved += pieces.reduce((sum, piece) => sum + piece.length, 0);
        }
    }

    #count(bytes) {
        this.received += bytes;
        const time = performance.now();
        if (this.#samples.length > 0 && time - this.#samples.at(-1).time < 100) return;
        this.#samples.push({ time, received: this.received });
        while (time - this.#samples[0].time > SPEED_SPAN) this.#samples.shift();
        this.dispatchEvent(new Event('change'));
    }

    async #stop(error) {
        await this.#sink.abort();
        this.error = error;
        this.#set(this.#abort.signal.aborted ? 'cancelled' : 'failed');
    }

    #set(state) {
        if (this.state === state && state !== 'running') return;
        this.state = state;
        this.dispatchEvent(new Event('change'));
    }
}
