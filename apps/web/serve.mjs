// Serves the files of one folder over HTTP, for `make run` and for the tests. Only files that were there at the start are
// served, by exact name: no path is ever put together from a request.
import { createServer } from 'node:http';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { extname, join } from 'node:path';

const TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.json': 'application/json; charset=utf-8',
    '.svg': 'image/svg+xml',
};

// config: what the page finds as config.json. Resolves with the listening server; its port: server.address().port.
export async function servePage(folder, { host = '127.0.0.1', port = 0, config = {} } = {}) {
    const names = new Set((await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isFile()).map((entry) => entry.name));
    const server = createServer((request, response) => {
        const name = decodeName(request.url);
        const known = name === 'config.json' || names.has(name);
        response.setHeader('X-Content-Type-Options', 'nosniff');
        response.setHeader('Content-Security-Policy', "frame-ancestors 'none'");
        response.setHeader('Cache-Control', 'no-cache');
        response.setHeader('Content-Type', known ? (TYPES[extname(name)] ?? 'application/octet-stream') : 'text/plain; charset=utf-8');
        if (request.method !== 'GET' && request.method !== 'HEAD') {
            response.writeHead(405, { Allow: 'GET, HEAD' }).end('Only GET and HEAD.\n');
        } else if (!known) {
            response.writeHead(404).end('There is no such file.\n');
        } else if (request.method === 'HEAD') {
            response.end();
        } else if (name === 'config.json') {
            response.end(JSON.stringify(config));
        } else {
            createReadStream(join(folder, name)).on('error', () => response.destroy()).pipe(response);
        }
    });
    await new Promise((resolve, reject) => server.once('error', reject).listen(port, host, resolve));
    return server;
}

function decodeName(url) {
    try {
        return decodeURIComponent(new URL(url, 'http://localhost').pathname.slice(1)) || 'index.html';
    } catch {
        return '';
    }
}
