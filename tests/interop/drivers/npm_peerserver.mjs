// npm's PeerServer: npm_peerserver.mjs [OPTIONS], its own as JSON, but ssl.key and ssl.cert are files. On any port of 127.0.0.1 if they
// name none. Prints its port when it can be used.
// The package's own command is not used: a message that is no JSON leaves its socket deaf, and it does not end while clients are connected.
import { readFileSync } from 'node:fs';
import { PeerServer } from 'peer';

const { ssl, ...options } = JSON.parse(process.argv[2] ?? '{}');
for (const name of Object.keys(ssl ?? {})) ssl[name] = readFileSync(ssl[name]);
const app = PeerServer({ host: '127.0.0.1', port: 0, path: '/', cleanup_out_msgs: 100, ...options, ssl }, (server) => {
    console.log(JSON.stringify({ port: server.address().port }));
});
// Without a listener one malformed message would end the process.
app.on('error', (error) => console.error(`PeerServer: ${error.message}`));
// It offers no other way to learn that the port is taken.
process.on('uncaughtException', (error) => {
    console.error(`PeerServer: ${error.message}`);
    process.exit(1);
});
