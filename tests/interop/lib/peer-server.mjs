// npm's PeerServer on 127.0.0.1, in a process of its own (its timers never let a process end). Prints its port.
import { PeerServer } from 'peer';

const app = PeerServer({ host: '127.0.0.1', port: Number(process.argv[2] ?? 0), path: '/' }, (server) => {
    console.log(JSON.stringify({ port: server.address().port }));
});
// Without a listener one malformed message would end the process.
app.on('error', (error) => console.error(`PeerServer: ${error.message}`));
