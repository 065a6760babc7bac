// The BinaryPack vectors of the unit tests (tests/unit/rpc/vectors.py tells their form).
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { root } from './world.mjs';

// [{kind, name, value, packed}] of the lines that say how a value packs: "pack", as in JavaScript, or "differ", as we do it.
export async function packVectors() {
    const text = await readFile(join(root, 'tests/unit/rpc/vectors.txt'), 'utf8');
    const lines = text.split('\n').map((line) => line.split('\t'));
    return lines.filter(([kind]) => kind === 'pack' || kind === 'differ').map(([kind, name, value, packed]) => ({ kind, name, value, packed }));
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
