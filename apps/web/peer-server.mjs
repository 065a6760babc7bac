// npm's PeerServer, for `make run` and for the tests: peer-server.mjs [PORT [ADDRESS]], else any port of 127.0.0.1.
// Prints its port when it can be used.
// The package's own command is not used: a message that is no JSON leaves its socket deaf, and it does not end while clients are connected.
import { PeerServer } from 'peer';

const [port = 0, host = '127.0.0.1'] = process.argv.slice(2);
const app = PeerServer({ host, port: Number(port), path: '/' }, (server) => {
    console.log(JSON.stringify({ port: server.address().port }));
});
// Without a listener one malformed message would end the process.
app.on('error', (error) => console.error(`PeerServer: ${error.message}`));
// It offers no other way to learn that the port is taken.
process.on('uncaughtException', (error) => {
    console.error(`PeerServer: ${error.message}`);
    process.exit(1);
});
