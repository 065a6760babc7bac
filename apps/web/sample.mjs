// sample.mjs FOLDER: makes what `make run` serves when it is given no folder: text, a picture, folders, and 50 MB that are the same
// on every machine.
import { createCipheriv } from 'node:crypto';
import { mkdir, open, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const BIG = 50 * 1000 * 1000;

const folder = process.argv[2];

await mkdir(join(folder, 'Documents', 'Letters'), { recursive: true });
await mkdir(join(folder, 'Pictures'), { recursive: true });
await mkdir(join(folder, 'Empty folder'), { recursive: true });
await writeOnce(join(folder, 'README.txt'), 'This folder lies on the storage device. Its files come to your browser directly, over a WebRTC data channel.\n');
await writeOnce(join(folder, 'Documents', 'Shopping list.txt'), 'Bread\nMilk\nAn inflatable crocodile\n');
await writeOnce(join(folder, 'Documents', 'Letters', 'Grüße.txt'), 'Viele Grüße!\n');
await writeOnce(join(folder, 'Pictures', 'Gradient.bmp'), gradient(320, 200));
await makeBig(join(folder, '50 MB.bin'));

async function writeOnce(path, content) {
    await writeFile(path, content, { flag: 'wx' }).catch((error) => {
        if (error.code !== 'EEXIST') throw error;
    });
}

// AES in counter mode: the same everywhere, and nothing on the way can compress it.
async function makeBig(path) {
    const size = await stat(path).then((info) => info.size, () => -1);
    if (size === BIG) return;
    const stream = createCipheriv('aes-128-ctr', 'datapeer sample.', Buffer.alloc(16));
    const file = await open(path, 'w');
    const zeros = Buffer.alloc(1000 * 1000);
    for (let written = 0; written < BIG; written += zeros.length) await file.writeFile(stream.update(zeros));
    await file.close();
}

// A 24-bit Windows bitmap: a picture format that needs no compression. width must be a multiple of 4.
function gradient(width, height) {
    const header = Buffer.alloc(54);
    header.write('BM');
    header.writeUInt32LE(54 + width * height * 3, 2);
    header.writeUInt32LE(54, 10);
    header.writeUInt32LE(40, 14);
    header.writeInt32LE(width, 18);
    header.writeInt32LE(height, 22);
    header.writeUInt16LE(1, 26);
    header.writeUInt16LE(24, 28);
    const pixels = Buffer.alloc(width * height * 3);
    for (let y = 0, at = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
            pixels[at++] = 110 + Math.round((x / width) * 140);
            pixels[at++] = 60 + Math.round((y / height) * 160);
            pixels[at++] = 15 + Math.round(((x + y) / (width + height)) * 120);
        }
    }
    return Buffer.concat([header, pixels]);
}
