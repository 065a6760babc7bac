// npm's PeerServer with the options given as JSON, for the tests that run against both servers. Prints its port.
import { PeerServer } from '../../../apps/web/node_modules/peer/dist/module.mjs';

const options = JSON.parse(process.argv[2]);
const app = PeerServer({ host: '127.0.0.1', port: 0, cleanup_out_msgs: 100, ...options }, (server) => {
    console.log(JSON.stringify({ port: server.address().port }));
});
// Without a listener one malformed message would end the process.
app.on('error', () => {});
