// Asks STUN servers for our public address, from one socket for each family: `stun-probe.mjs ADDRESS...` prints a JSON list of
// {asked, from, mapped}, with "from" the address that answered. Written without our own code (RFC 8489 §5, §14.2).
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';

const PORT = 3478;

function addressOf(answer) {
    if (answer.readUInt16BE(0) !== 0x0101) throw new Error(`type ${answer.readUInt16BE(0)}`);
    if (answer.readUInt16BE(20) !== 0x0020) throw new Error('no XOR-MAPPED-ADDRESS');
    const ip = answer.subarray(28, 24 + answer.readUInt16BE(22)).map((byte, i) => byte ^ answer[4 + i]);
    if (ip.length === 4) return ip.join('.');
    return Array.from({ length: 8 }, (_, i) => ip.readUInt16BE(2 * i).toString(16)).join(':').replace(/(:0)+:/, '::');
}

async function ask(socket, asked) {
    const id = randomBytes(12);
    const request = Buffer.concat([Buffer.from('000100002112a442', 'hex'), id]);
    socket.send(request, PORT, asked);
    const again = setInterval(() => socket.send(request, PORT, asked), 500);
    for (;;) {
        const [answer, from] = await once(socket, 'message');
        if (!answer.subarray(8, 20).equals(id)) continue;
        clearInterval(again);
        return { asked, from: from.address, mapped: addressOf(answer) };
    }
}

const sockets = { 4: createSocket('udp4').bind(0), 6: createSocket('udp6').bind(0) };
const answers = [];
for (const asked of process.argv.slice(2)) answers.push(await ask(sockets[isIPv6(asked) ? 6 : 4], asked));
console.log(JSON.stringify(answers));
Object.values(sockets).forEach((socket) => socket.close());
