// The content that both ends of a test can make: byte i = (h >> 24) ^ (h >> 11), h = (i + seed * 7919) * 0x9E3779B1, all modulo 2^32.
import { createHash } from 'node:crypto';

export function pattern(length, seed) {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) {
        const h = Math.imul(i + Math.imul(seed, 7919), 0x9e3779b1) >>> 0;
        bytes[i] = (h >>> 24) ^ (h >>> 11);
    }
    return bytes;
}

export function sha256(bytes) {
    return createHash('sha256').update(bytes).digest('hex');
}

// What a digest of pattern(length, seed) must say.
export function patternDigest(length, seed) {
    return { length, sha256: sha256(pattern(length, seed)) };
}
