// The file actions of a storage device: fs.list, fs.stat, fs.read. What a device answers is not trusted to have the right shape.
import { RpcError } from './rpc.js';

// A file is read in windows, one of them asked for ahead: a data channel has no way to slow its sender down, so a slow
// disk on this side would otherwise fill the memory. It also makes a read resumable at any offset.
const WINDOW = 4 * 1024 * 1024;

// {path, entries: [{name, type, size, mtime}], truncated, unnamed: how many have names that are no text}
export async function list(rpc, path, options) {
    const data = await rpc.request('fs.list', { path }, options);
    if (!Array.isArray(data?.entries)) throw new RpcError(501, 'This device offers no files.');
    return { path, entries: data.entries.map(toEntry), truncated: data.truncated === true, unnamed: Number(data.unnamed) || 0 };
}

export async function stat(rpc, path, options) {
    const data = await rpc.request('fs.stat', { path }, options);
    if (data === null || typeof data !== 'object') throw new RpcError(501, 'This device offers no files.');
    return toEntry(data);
}

// Yields arrays of byte pieces, from offset up to size. Throws RpcError; after kind "lost" it can be called again with
// another rpc and the offset that was reached.
export async function* read(rpc, path, offset, size, { signal, onBytes }) {
    let ahead = null;
    const next = () => {
        if (offset >= size) return null;
        const length = Math.min(WINDOW, size - offset);
        const window = readWindow(rpc, path, offset, length, { signal, onBytes });
        window.catch(() => {}); // reported when its turn comes
        offset += length;
        return window;
    };
    ahead = next();
    while (ahead) {
        const current = ahead;
        ahead = next();
        yield await current;
    }
}

async function readWindow(rpc, path, offset, length, { signal, onBytes }) {
    const pieces = [];
    const take = (bytes) => {
        pieces.push(bytes);
        onBytes?.(bytes.length);
    };
    const received = await rpc.stream('fs.read', { path, offset, length }, take, { signal });
    if (received !== length) throw new RpcError(409, 'The file changed on the device while it was being read.');
    return pieces;
}

function toEntry(data) {
    const type = data?.type === 'directory' || data?.type === 'file' ? data.type : 'other';
    return {
        name: typeof data?.name === 'string' ? data.name : '',
        type,
        size: Number.isSafeInteger(data?.size) && data.size >= 0 ? data.size : 0,
        mtime: Number.isFinite(data?.mtime) ? data.mtime : null,
    };
}
