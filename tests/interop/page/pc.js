// A driver of docs/interop.md, part 1, around a browser's RTCPeerConnection. The test hands commands to driver.commands() and takes
// events from driver.events().
const HIGH = 1 << 20;
const utf8 = new TextEncoder();

function pattern(size, seed, text) {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < size; i++) {
        const byte = (seed * 131 + i * 7 + (i >> 8)) & 255;
        bytes[i] = text ? 65 + (byte % 26) : byte;
    }
    return bytes;
}

function hex(digest) {
    return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function sha256(parts) {
    return hex(await crypto.subtle.digest('SHA-256', await new Blob(parts).arrayBuffer()));
}

class Connection {
    #pc = new RTCPeerConnection();
    #channels = new Map(); // label: {dc, incoming, sending, echo, sink}; dc is null as long as there is none
    #opened = false;
    #printed = Promise.resolve(); // events leave in the order in which things happened, though hashes take their time

    constructor(role, trickle, print) {
        this.role = role;
        this.trickle = trickle;
        this.print = (event) => (this.#printed = this.#printed.then(async () => print(await event)));
        const pc = this.#pc;
        pc.onconnectionstatechange = () => this.print({ ev: 'state', state: pc.connectionState });
        pc.oniceconnectionstatechange = () => this.print({ ev: 'ice', state: pc.iceConnectionState });
        pc.ondatachannel = ({ channel }) => this.#adopt(channel, true);
        pc.onicecandidate = ({ candidate }) => {
            if (!trickle || candidate?.candidate === '') return;
            const { sdpMid = '0', sdpMLineIndex = 0 } = candidate ?? {};
            this.print({ ev: 'candidate', candidate: candidate?.candidate ?? null, sdpMid, sdpMLineIndex });
        };
        this.print({ ev: 'ready', impl: navigator.userAgent, reset: true });
    }

    close() {
        this.print = () => {};
        this.#pc.close();
    }

    #channel(label) {
        if (!this.#channels.has(label)) this.#channels.set(label, { dc: null, sending: Promise.resolve() });
        return this.#channels.get(label);
    }

    #adopt(dc, incoming) {
        const channel = this.#channel(dc.label);
        const { label } = dc;
        let open = false;
        channel.dc = dc;
        dc.binaryType = 'arraybuffer';
        dc.bufferedAmountLowThreshold = HIGH / 2;
        dc.onopen = () => {
            if (open) return;
            open = true;
            const { id, ordered, maxRetransmits, maxPacketLifeTime, protocol, negotiated } = dc;
            this.print({ ev: 'open', label, id, ordered, maxRetransmits, maxPacketLifeTime, protocol, negotiated, incoming });
        };
        dc.onmessage = ({ data }) => this.#message(channel, data);
        dc.onclose = () => this.print({ ev: 'closed', label });
        if (dc.readyState === 'open') dc.onopen();
    }

    #message(channel, data) {
        const { dc, sink } = channel;
        const { label } = dc;
        const binary = typeof data !== 'string';
        const bytes = binary ? data : utf8.encode(data);
        const size = bytes.byteLength;
        if (channel.echo) {
            this.#send(channel, async () => dc.readyState === 'open' && dc.send(data));
        }
        if (!sink) {
            this.print(sha256([bytes]).then((hash) => ({ ev: 'message', label, binary, size, sha256: hash })));
            return;
        }
        sink.first ??= performance.now();
        sink.parts.push(bytes);
        sink.size += size;
        if (sink.parts.length < sink.count) return;
        channel.sink = null;
        const ms = Math.round(performance.now() - sink.first);
        this.print(sha256(sink.parts).then((hash) => ({ ev: 'sunk', label, count: sink.count, size: sink.size, sha256: hash, ms })));
    }

    // Work on one channel keeps its order and holds nothing else up.
    #send(channel, work) {
        channel.sending = channel.sending.then(work);
    }

    #fail(cmd, label) {
        return (error) => this.print({ ev: 'error', message: `${error}`, cmd, label });
    }

    async #room(dc) {
        while (dc.bufferedAmount > HIGH && dc.readyState === 'open')
            await new Promise((resolve) => {
                dc.addEventListener('bufferedamountlow', resolve, { once: true });
                dc.addEventListener('close', resolve, { once: true });
            });
    }

    #open({ label, ordered = true, maxRetransmits, maxPacketLifeTime, protocol = '', negotiated = false, id }) {
        const init = { ordered, protocol, negotiated };
        if (negotiated) init.id = id;
        if (maxRetransmits != null) init.maxRetransmits = maxRetransmits;
        if (maxPacketLifeTime != null) init.maxPacketLifeTime = maxPacketLifeTime;
        this.#adopt(this.#pc.createDataChannel(label, init), false);
        this.#opened = true;
    }

    async #describe(type) {
        const pc = this.#pc;
        await pc.setLocalDescription();
        if (!this.trickle) {
            while (pc.iceGatheringState !== 'complete')
                await new Promise((resolve) => pc.addEventListener('icegatheringstatechange', resolve, { once: true }));
        }
        this.print({ ev: 'description', type, sdp: pc.localDescription.sdp });
    }

    async command(line) {
        const { cmd, label } = line;
        const pc = this.#pc;
        const channel = label === undefined ? undefined : this.#channel(label);
        switch (cmd) {
            case 'open':
                return this.#open(line);
            case 'start':
                if (this.role !== 'offer' || !this.#opened) throw new Error('not now');
                return this.#describe('offer');
            case 'description':
                await pc.setRemoteDescription({ type: line.type, sdp: line.sdp });
                if (line.type === 'offer') await this.#describe('answer');
                return;
            case 'candidate': {
                const { candidate, sdpMid, sdpMLineIndex } = line;
                return pc.addIceCandidate(candidate ? { candidate, sdpMid, sdpMLineIndex } : undefined);
            }
            case 'send': {
                const { binary = true, size = 0, seed = 0, count = 1, text } = line;
                const work = async () => {
                    for (let j = 0; j < count; j++) {
                        await this.#room(channel.dc);
                        const bytes = text ?? pattern(size, seed + j, !binary);
                        channel.dc.send(binary || text !== undefined ? bytes : new TextDecoder().decode(bytes));
                    }
                    this.print({ ev: 'sent', label, count });
                };
                return this.#send(channel, () => work().catch(this.#fail(cmd, label)));
            }
            case 'echo':
                channel.echo = true;
                return this.print({ ev: 'armed', label });
            case 'sink':
                channel.sink = { count: line.count, size: 0, parts: [] };
                return this.print({ ev: 'armed', label });
            case 'close':
                return this.#send(channel, async () => channel.dc.close());
            case 'stats':
                return this.print(pc.getStats().then((stats) => ({ ev: 'stats', stats: Object.fromEntries(stats) })));
            default:
                throw new Error('unknown command');
        }
    }

    run(line) {
        return this.command(line).catch(this.#fail(line.cmd, line.label));
    }
}

window.driver = {
    queue: [],
    wake: () => {},
    connection: null,
    done: Promise.resolve(),

    begin(role, trickle) {
        this.connection?.close();
        this.connection = new Connection(role, trickle, (event) => {
            this.queue.push(event);
            this.wake();
        });
    },

    // In order, whatever each waits for.
    commands(lines) {
        for (const line of lines) {
            this.done = this.done.then(() => {
                if (line.cmd === 'reset') this.begin(line.role, line.trickle ?? false);
                else if (line.cmd === 'quit') this.connection.close();
                else return this.connection.run(line);
            });
        }
    },

    // What has happened since the last call; waits until there is something.
    async events() {
        if (this.queue.length === 0) await new Promise((resolve) => (this.wake = resolve));
        return this.queue.splice(0);
    },
};
