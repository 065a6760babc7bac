// free-port.mjs PORT: prints PORT if nobody listens there on 127.0.0.1, else another.
import { createServer } from 'node:net';

const probe = (port, then) => createServer().once('error', () => probe(0, then)).listen(port, '127.0.0.1', function () {
    const { port: got } = this.address();
    this.close(() => then(got));
});
probe(Number(process.argv[2]), console.log);
