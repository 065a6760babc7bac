// Finds out what a NAT does (RFC 4787): `nat-probe.mjs serve FIRST SECOND` outside, with two addresses, and `nat-probe.mjs ask FIRST
// SECOND` behind it, which prints {"mappings": the ports that its one socket has outside, "heard": who could send to it}.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';

const [mode, first, second] = process.argv.slice(2);
const [PORT, OTHER] = [7001, 7002];

async function bound(port, address) {
    const socket = createSocket('udp4');
    socket.bind(port, address);
    await once(socket, 'listening');
    return socket;
}

const send = (socket, text, port, address) => new Promise((done) => socket.send(text, port, address, done));

async function serve() {
    const [called, otherPort, otherAddress] = [await bound(PORT, first), await bound(OTHER, first), await bound(PORT, second)];
    called.on('message', async (_, from) => {
        await send(otherPort, 'another port', from.port, from.address);
        await send(otherAddress, 'another address', from.port, from.address);
        await send(called, `${from.port}`, from.port, from.address); // overtakes nothing: who hears it has heard all
    });
    otherAddress.on('message', (_, from) => send(otherAddress, `${from.port}`, from.port, from.address));
    console.log('ready');
}

async function ask() {
    const socket = await bound(0, '0.0.0.0');
    const answer = { mappings: [], heard: [] };
    socket.on('message', (data) => {
        const text = `${data}`;
        if (!/^\d+$/.test(text)) return answer.heard.push(text);
        answer.mappings.push(Number(text));
        if (answer.mappings.length === 1) return send(socket, 'what is my port?', PORT, second);
        console.log(JSON.stringify(answer));
        socket.close();
    });
    await send(socket, 'what is my port?', PORT, first);
}

await (mode === 'serve' ? serve() : ask());
