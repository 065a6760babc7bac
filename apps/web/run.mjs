// `make run`: a PeerServer, `datapeer serve` on a folder, and the page, all on 127.0.0.1, until Ctrl-C.
// Settings from the environment: DIR (the folder; a sample otherwise), ID (name of the device), PORT (of the page; 8080 or
// a free one), PEER_PORT (of the PeerServer; 9000 or a free one).
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeSample } from './sample.mjs';
import { servePage } from './serve.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../..');
const program = resolve(root, process.env.B || 'build', 'datapeer');
const id = process.env.ID || 'my-disk';
const children = new Map(); // name -> ChildProcess
let stopping = false;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop(0));

try {
    const folder = process.env.DIR ? resolve(process.env.DIR) : join(root, 'build', 'sample');
    if (!process.env.DIR) await makeSample(folder);

    const peerPort = await choosePort(process.env.PEER_PORT, 9000);
    const server = `ws://127.0.0.1:${peerPort}`;
    await startPeerServer(peerPort);
    await startDevice(folder, server);

    const config = { server, iceServers: [] };
    const page = await servePage(join(root, 'build', 'web'), { port: await choosePort(process.env.PORT, 8080), config });
    console.log(`Open http://127.0.0.1:${page.address().port}/#${encodeURIComponent(id)} to see ${folder}. Ctrl-C ends it.`);
} catch (error) {
    console.error(`run: ${error.message}`);
    stop(1);
}

function startPeerServer(port) {
    return start('PeerServer', process.execPath, [join(here, 'peer-server.mjs'), String(port)], /"port"/);
}

function startDevice(folder, server) {
    return start('datapeer serve', program, ['serve', folder, '--id', id, '--server', server], new RegExp(escape(id)));
}

// Resolves when the child prints the line that says it is ready.
function start(name, command, args, ready) {
    return new Promise((done, fail) => {
        // detached: a terminal sends Ctrl-C to its whole process group, but the children are to be ended by stop().
        const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
        children.set(name, child);
        createInterface({ input: child.stdout }).on('line', (line) => ready.test(line) && done());
        child.on('error', (error) => {
            children.delete(name);
            fail(new Error(`${name} can't be started: ${error.message}`));
        });
        child.on('exit', (code, signal) => {
            children.delete(name);
            if (stopping) return;
            console.error(`run: ${name} ended ${signal ? `by ${signal}` : `with code ${code}`}, so all ends`);
            stop(1);
        });
    });
}

// Ends the children and waits for them; one that does not obey within 3 s is killed.
async function stop(code) {
    if (stopping) return;
    stopping = true;
    const ended = [...children.values()].map((child) => new Promise((done) => {
        child.once('exit', done);
        setTimeout(() => child.kill('SIGKILL'), 3000).unref();
        child.kill('SIGTERM');
    }));
    await Promise.all(ended);
    process.exit(code);
}

// The port that was asked for; else the usual one if it is free; else any.
async function choosePort(wanted, usual) {
    if (wanted) return Number(wanted);
    return tryPort(usual).catch(() => tryPort(0));
}

function tryPort(port) {
    return new Promise((done, fail) => {
        const probe = createServer();
        probe.once('error', fail).listen(port, '127.0.0.1', () => {
            const { port: got } = probe.address();
            probe.close(() => done(got));
        });
    });
}

function escape(text) {
    return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
