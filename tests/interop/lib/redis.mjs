// A Redis of the test's own: no file, no daemon. Debian's redis-tools has the server's program under another name; which of its
// faces it shows depends on the name it is started by.
import { execFile } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';

const PROGRAM = process.env.REDIS_SERVER || '/usr/bin/redis-check-rdb';
const execute = promisify(execFile);

export async function freePort() {
    const server = createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address();
    await new Promise((resolve) => server.close(resolve));
    return port;
}

// Between nodes and a Redis: inject(bytes) says these to all nodes, as if Redis did; cut() ends all connections; taken: those
// that have come. refuse(words): whoever comes hears these words, and no Redis; undefined: Redis again.
export async function proxy(world, redis) {
    const sockets = new Set();
    const it = { taken: 0, refuse: (words) => (it.words = words) };
    const server = createServer((socket) => {
        it.taken++;
        sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => sockets.delete(socket));
        if (it.words !== undefined) return socket.once('data', () => socket.write(it.words));
        const there = connect(redis.port, '127.0.0.1');
        there.on('error', () => socket.destroy());
        there.on('close', () => socket.destroy());
        socket.on('close', () => there.destroy());
        socket.pipe(there).pipe(socket, { end: false });
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    it.cut = () => sockets.forEach((socket) => socket.destroy());
    it.inject = (bytes) => sockets.forEach((socket) => socket.write(bytes));
    it.url = `redis://127.0.0.1:${server.address().port}`;
    world.defer(() => {
        server.close();
        it.cut();
    });
    return it;
}

export class Redis {
    // more: arguments for the server.
    static async start(world, more = []) {
        const redis = new Redis();
        redis.path = join(await world.temporaryFolder(), 'redis-server');
        symlinkSync(PROGRAM, redis.path);
        redis.port = await freePort();
        redis.url = `redis://127.0.0.1:${redis.port}`;
        redis.world = world;
        redis.more = more;
        await redis.again();
        return redis;
    }

    // At the same port, and empty.
    async again() {
        const args = ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', ...this.more];
        this.program = await this.world.program(this.path, args, { ready: (line) => line.includes('Ready to accept connections') });
    }

    // What redis-cli prints.
    async cli(...args) {
        const { stdout } = await execute('redis-cli', ['-p', String(this.port), '--no-auth-warning', ...args], { encoding: 'utf8' });
        return stdout.trimEnd();
    }

    async kill() {
        this.program.child.kill('SIGKILL');
        await this.program.exited;
    }
}
