// npm's PeerServer by TLS: tls-peer-server.mjs CERTIFICATE KEY. Prints its port when it can be used.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { PeerServer } = createRequire(new URL('../../../apps/web/', import.meta.url))('peer');
const [cert, key] = process.argv.slice(2).map((path) => readFileSync(path));
const app = PeerServer({ host: '127.0.0.1', port: 0, path: '/', ssl: { cert, key } }, (server) => {
    console.log(JSON.stringify({ port: server.address().port }));
});
app.on('error', (error) => console.error(`PeerServer: ${error.message}`));
