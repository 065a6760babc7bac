// The BinaryPack vectors of the unit tests (tests/unit/rpc/vectors.py tells their form).
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from './world.mjs';

async function vectors(kinds) {
    const text = await readFile(join(root, 'tests/unit/rpc/vectors.txt'), 'utf8');
    return text.split('\n').map((line) => line.split('\t')).filter(([kind]) => kinds.includes(kind));
}

// [{kind, name, value, packed}] of the lines that say how a value packs: "pack", as in JavaScript, or "differ", as we do it.
export async function packVectors() {
    return (await vectors(['pack', 'differ'])).map(([kind, name, value, packed]) => ({ kind, name, value, packed }));
}

// [{name, packed, value}] of what nobody packs so, but can be read; and what we refuse, without value.
export async function unpackVectors() {
    const good = (await vectors(['unpack', 'other'])).map(([, name, packed, value]) => ({ name, packed, value }));
    return [...good, ...(await vectors(['strict', 'malformed'])).map(([, name, packed]) => ({ name, packed }))];
}

// What our own packer made, as a vector's VALUE; and how many bytes of it that was.
export function notation(packed) {
    const bytes = Buffer.from(packed, 'hex');
    let at = 0;
    const number = (n) => {
        const data = Buffer.alloc(8);
        data.writeDoubleBE(n);
        return `#${data.toString('hex')} `;
    };
    const uint = (len) => bytes.readUIntBE((at += len) - len, len);
    const take = (len) => bytes.subarray((at += len) - len, at).toString('hex');
    const many = (count, one) => Array.from({ length: count }, one).join('');
    const text = (len) => `s${take(len)} `;
    const raw = (len) => `b${take(len)} `;
    const array = (count) => `[${many(count, value)}]`;
    const map = (count) => `{${many(count, () => value() + value())}}`;
    const long = {
        0xc0: () => 'N ', 0xc2: () => 'F ', 0xc3: () => 'T ',
        0xca: () => number(bytes.readFloatBE((at += 4) - 4)),
        0xcb: () => (bytes.readBigUInt64BE(at) === 0n ? (take(8), number(NaN)) : number(bytes.readDoubleBE((at += 8) - 8))),
        0xcc: () => number(uint(1)), 0xcd: () => number(uint(2)), 0xce: () => number(uint(4)),
        0xcf: () => number(Number(bytes.readBigUInt64BE((at += 8) - 8))),
        0xd0: () => number(bytes.readInt8((at += 1) - 1)), 0xd1: () => number(bytes.readInt16BE((at += 2) - 2)),
        0xd2: () => number(bytes.readInt32BE((at += 4) - 4)), 0xd3: () => number(Number(bytes.readBigInt64BE((at += 8) - 8))),
        0xd8: () => text(uint(2)), 0xd9: () => text(uint(4)), 0xda: () => raw(uint(2)), 0xdb: () => raw(uint(4)),
        0xdc: () => array(uint(2)), 0xdd: () => array(uint(4)), 0xde: () => map(uint(2)), 0xdf: () => map(uint(4)),
    };
    const value = () => {
        const tag = uint(1);
        if (tag <= 0x7f) return number(tag);
        if (tag >= 0xe0) return number(tag - 256);
        if (tag <= 0xbf) return [map, array, raw, text][(tag >> 4) - 8](tag & 15);
        return long[tag]();
    };
    return { value: value(), length: at };
}

// What a vector's VALUE means. It stands alone, so that a page can have it as well.
export function build(text, pattern) {
    let at = 0;
    const take = (expression) => {
        expression.lastIndex = at;
        const match = expression.exec(text);
        at = expression.lastIndex;
        return match.slice(1);
    };
    const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
    const string = (hex) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes(hex));
    const word = () => take(/([0-9a-f]*) /y)[0];
    const until = (end, one) => {
        const items = [];
        while (text[at] !== end) items.push(one());
        at++;
        return items;
    };
    const value = () => {
        switch (text[at++]) {
        case 'N': at++; return null;
        case 'T': at++; return true;
        case 'F': at++; return false;
        case '#': return new DataView(bytes(word()).buffer).getFloat64(0);
        case 's': return string(word());
        case 'b': return bytes(word());
        case 'S': {
            const [len, hex] = take(/\((\d+)\)([0-9a-f]*) /y);
            return string(hex).repeat(Number(len));
        }
        case 'P': {
            const [len, seed] = take(/\((\d+)\)(\d+) /y);
            return pattern(Number(len), Number(seed));
        }
        case 'A': {
            const [len] = take(/\((\d+)\)/y);
            const item = value();
            return Array(Number(len)).fill(item);
        }
        case 'K': {
            const [len] = take(/\((\d+)\) ?/y);
            return Object.fromEntries(Array.from({ length: Number(len) }, (_, i) => [`k${i}`, i % 16]));
        }
        case '[': return until(']', value);
        case '{': return Object.fromEntries(until('}', () => [(at++, string(word())), value()]));
        default: throw new Error(`no value: ${text.slice(at - 1, at + 20)}`);
        }
    };
    return value();
}
