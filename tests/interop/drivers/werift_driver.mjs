// werift as a driver of docs/interop.md, part 1: one raw peer connection driven by JSON lines.
//
//   node werift_driver.mjs offer|answer [--trickle] [--mdns]
//
// werift never hides its addresses.
import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import { RTCPeerConnection } from 'werift';

const BUFFERED_HIGH = 1 << 20;
const BUFFERED_LOW = 1 << 19;
const [role, ...options] = process.argv.slice(2);
if (!['offer', 'answer'].includes(role) || options.some((option) => !['--trickle', '--mdns'].includes(option))) {
    console.error('usage: werift_driver.mjs offer|answer [--trickle] [--mdns]');
    process.exit(2);
}
const trickle = options.includes('--trickle');

const pc = new RTCPeerConnection({ iceServers: [] });
const channels = new Map();

function tell(ev, fields) {
    process.stdout.write(JSON.stringify({ ev, ...fields }) + '\n');
}

function tellError(error, fields = {}) {
    tell('error', { message: error.message, ...fields });
}

function content(size, seed, binary) {
    const bytes = Buffer.alloc(size);
    for (let i = 0; i < size; i++) {
        const byte = (seed * 131 + i * 7 + (i >> 8)) & 255;
        bytes[i] = binary ? byte : 65 + (byte % 26);
    }
    return binary ? bytes : bytes.toString();
}

// A label: what is asked of it, and its data channel once there is one.
class Channel {
    dc = null;
    echo = false;
    sink = null;
    jobs = Promise.resolve(); // the sends and the close, in their order

    constructor(label) {
        this.label = label;
    }

    take(dc, incoming) {
        this.dc = dc;
        dc.bufferedAmountLowThreshold = BUFFERED_LOW;
        dc.onMessage.subscribe((message) => this.onMessage(message));
        dc.stateChanged.subscribe((state) => {
            if (state === 'open') this.onOpen(incoming);
            if (state === 'closed') tell('closed', { label: this.label });
        });
        if (dc.readyState === 'open') this.onOpen(incoming);
    }

    onOpen(incoming) {
        const { id, ordered, maxRetransmits, maxPacketLifeTime, protocol, negotiated } = this.dc;
        tell('open', { label: this.label, id, ordered, maxRetransmits, maxPacketLifeTime, protocol, negotiated, incoming });
    }

    onMessage(message) {
        const data = Buffer.from(message);
        if (this.sink) this.swallow(data);
        else {
            const sha256 = createHash('sha256').update(data).digest('hex');
            tell('message', { label: this.label, binary: typeof message !== 'string', size: data.length, sha256 });
        }
        if (this.echo) this.push({ cmd: 'echo' }, () => this.hand(message));
    }

    swallow(data) {
        const { sink } = this;
        sink.first ??= performance.now();
        sink.sunk++;
        sink.size += data.length;
        sink.hash.update(data);
        if (sink.sunk < sink.count) return;
        this.sink = null;
        const ms = Math.round(performance.now() - sink.first);
        tell('sunk', { label: this.label, count: sink.count, size: sink.size, sha256: sink.hash.digest('hex'), ms });
    }

    push({ cmd }, job) {
        this.jobs = this.jobs.then(job).catch((error) => tellError(error, { cmd, label: this.label, ...error.fields }));
    }

    // Resolves when no more than so much is buffered.
    async room(limit) {
        while (this.dc.bufferedAmount > limit) {
            this.dc.bufferedAmountLowThreshold = Math.min(limit, BUFFERED_LOW);
            await new Promise((resolve) => this.dc.bufferedAmountLow.once(resolve));
        }
    }

    async hand(message) {
        if (message.length === 0) throw Object.assign(new Error('werift sends no empty messages'), { fields: { unsupported: true } });
        await this.room(BUFFERED_HIGH);
        this.dc.send(message);
    }

    async send({ text, binary = true, size = 0, seed = 0, count = 1 }) {
        for (let j = 0; j < count; j++) await this.hand(text ?? content(size, seed + j, binary));
        tell('sent', { label: this.label, count });
    }

    async close() {
        await this.room(0); // werift would reset the stream before what it still queues for it
        this.dc.close();
    }
}

function channelOf(label) {
    if (!channels.has(label)) channels.set(label, new Channel(label));
    return channels.get(label);
}

async function describe(description) {
    const gathered = new Promise((resolve) => pc.iceGatheringStateChange.subscribe((state) => state === 'complete' && resolve()));
    const local = pc.setLocalDescription(description);
    if (trickle) tell('description', { type: description.type, sdp: description.sdp });
    await local;
    if (trickle) return;
    if (pc.iceGatheringState !== 'complete') await gathered;
    tell('description', { type: description.type, sdp: pc.localDescription.sdp });
}

const commands = {
    open({ label, ordered = true, maxRetransmits, maxPacketLifeTime, protocol = '', negotiated = false, id }) {
        const limits = { maxRetransmits: maxRetransmits ?? undefined, maxPacketLifeTime: maxPacketLifeTime ?? undefined };
        const dc = pc.createDataChannel(label, { ordered, ...limits, protocol, negotiated, id: negotiated ? id : undefined });
        channelOf(label).take(dc, false);
    },
    async start() {
        await describe(await pc.createOffer());
    },
    async description({ type, sdp }) {
        await pc.setRemoteDescription({ type, sdp });
        if (type === 'offer') await describe(await pc.createAnswer());
    },
    async candidate({ candidate, sdpMid, sdpMLineIndex }) {
        if (candidate) await pc.addIceCandidate({ candidate, sdpMid, sdpMLineIndex });
    },
    send(command) {
        const channel = channelOf(command.label);
        if (!channel.dc) throw new Error('no such channel');
        channel.push(command, () => channel.send(command));
    },
    close(command) {
        const channel = channelOf(command.label);
        if (!channel.dc) throw new Error('no such channel');
        channel.push(command, () => channel.close());
    },
    echo({ label }) {
        channelOf(label).echo = true;
        tell('armed', { label });
    },
    sink({ label, count = 1 }) {
        channelOf(label).sink = { count, sunk: 0, size: 0, hash: createHash('sha256') };
        tell('armed', { label });
    },
    async quit() {
        await pc.close();
        process.exit(0);
    },
    die() {
        process.kill(process.pid, 'SIGKILL');
    },
};

pc.connectionStateChange.subscribe((state) => tell('state', { state }));
pc.iceConnectionStateChange.subscribe((state) => tell('ice', { state }));
pc.onDataChannel.subscribe((dc) => channelOf(dc.label).take(dc, true));
pc.onIceCandidate.subscribe((found) => {
    if (!trickle) return;
    const { candidate = null, sdpMid = '0', sdpMLineIndex = 0 } = found ?? {};
    tell('candidate', { candidate: candidate || null, sdpMid, sdpMLineIndex });
});
process.on('uncaughtException', (error) => console.error(error));

tell('ready', { impl: 'werift of package.json', reset: false });
for await (const line of createInterface({ input: process.stdin })) {
    let command;
    try {
        command = JSON.parse(line);
    } catch {
        console.error('ignored a line that is no command');
        continue;
    }
    const { cmd, label } = command;
    if (!Object.hasOwn(commands, cmd)) {
        tell('error', { message: 'not in this driver', cmd, label, unsupported: true });
        continue;
    }
    try {
        await commands[cmd](command);
    } catch (error) {
        tellError(error, { cmd, label });
    }
}
await commands.quit();
