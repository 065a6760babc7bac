// What a test needs around it: a PeerServer, programs of ours, a browser with a page. Everything that was started is ended by
// close(), last first; if the test process itself is ended, its children are killed.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium, firefox } from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));
export const root = join(here, '../../..');
export const build = resolve(root, process.env.B || 'build');
export const VERSIONS = ['1.5.4', '1.5.5'];

export const BROWSERS = ['chromium', 'firefox'];
// [browser, version of PeerJS] of the long tests. PeerJS makes the same of both browsers, so the older one is tested with one of them.
export const PAGES = [...VERSIONS.map((version) => ['chromium', version]), ['firefox', VERSIONS.at(-1)]];
// [browser, version of PeerJS, whose PeerServer, thorough]: all of these meet, but what goes through a data channel is no PeerServer's
// business, so the long tests are made with one of the two.
export const MEETINGS = PAGES.flatMap((page) => [[...page, 'datapeer', true], [...page, 'npm', false]]);
export const CHROMIUM = process.env.CHROMIUM || '/usr/bin/chromium';
const FIREFOX = process.env.FIREFOX || '/usr/bin/firefox-esr';
// The browsers are as people have them: hiding of addresses behind mDNS names stays on. The arguments keep Chromium from calling home.
const CHROMIUM_ARGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

// Deadlines are generous: a test machine may be slow, and nothing waits longer than it must.
export const DEADLINE = 30000;

const alive = new Set(); // children that must not survive this process
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => process.exit(1));
process.on('exit', () => alive.forEach((child) => child.kill('SIGKILL')));

// Where programs of this process keep what is to last, as a device its certificate: not in the developer's home.
const state = mkdtempSync(join(tmpdir(), 'datapeer-state-'));
process.env.XDG_STATE_HOME = state;
process.on('exit', () => rmSync(state, { recursive: true, force: true }));

export class World {
    #closers = [];
    #pages = null;

    async close() {
        for (const closer of this.#closers.reverse()) await closer();
        this.#closers = [];
    }

    defer(closer) {
        this.#closers.push(closer);
    }

    // npm's PeerServer. Returns {port, url, program}.
    async peerServer(port = 0) {
        const args = [join(here, '../drivers/npm_peerserver.mjs'), JSON.stringify({ port })];
        const program = await this.program(process.execPath, args, { ready: (line) => parse(line)?.port > 0 });
        port = parse(program.lines.at(-1)).port;
        return { port, url: `ws://127.0.0.1:${port}`, program };
    }

    // A program of ours; resolves when it has printed a line that ready accepts.
    async program(path, args, { env = {}, ready }) {
        const program = new Program(path, args, env);
        this.defer(() => program.stop());
        await program.waitLine(ready);
        return program;
    }

    rpcDemo(peerServer, id) {
        const args = ['--id', id, '--server', peerServer.url];
        return this.program(join(build, 'examples/rpc_demo'), args, { ready: (line) => parse(line)?.ready === true });
    }

    device(peerServer, folder, id) {
        const args = ['serve', folder, '--id', id, '--server', peerServer.url];
        return this.program(join(build, 'datapeer'), args, { ready: (line) => line.includes(id) });
    }

    // `datapeer serve` that is its own PeerServer and has the page. Returns {port, url, program, page}: page is the address it prints.
    async home(folder, id, more = []) {
        const host = more.includes('--host') ? [] : ['--host', '127.0.0.1'];
        const args = ['serve', folder, '--id', id, ...host, '--port', '0', ...more];
        const program = await this.program(join(build, 'datapeer'), args, { env: { PEER_SERVER_URL: '' }, ready: (line) => line.startsWith('open ') });
        const page = program.lines.at(-1).replace(/^open /, '');
        const { port } = new URL(page);
        return { port: Number(port), url: `ws://127.0.0.1:${port}`, program, page };
    }

    // One of BROWSERS. Returns {browser, pid}.
    browser(name) {
        return name === 'firefox' ? this.firefox() : this.chromium();
    }

    // One that tells its local addresses to every page.
    openBrowser(name) {
        if (name === 'firefox') return this.firefox(undefined, { 'media.peerconnection.ice.obfuscate_host_addresses': false });
        return this.chromium(CHROMIUM, ['--disable-features=WebRtcHideLocalIpsWithMdns']);
    }

    // executablePath: what becomes Chromium, if that is not the program itself.
    chromium(executablePath = CHROMIUM, more = []) {
        return this.#launch(chromium, CHROMIUM, { executablePath, args: [...CHROMIUM_ARGS, ...more], chromiumSandbox: false });
    }

    // downloadsPath: where it puts what a page saves. playwright-core makes no download event of a Blob here.
    async firefox(downloadsPath, firefoxUserPrefs) {
        // Firefox as root wants a home that is root's, and writes there.
        const env = { ...process.env, HOME: await this.temporaryFolder() };
        // The channel makes playwright-core speak WebDriver BiDi, which every Firefox understands, not the protocol of its own build.
        return this.#launch(firefox, FIREFOX, { executablePath: FIREFOX, channel: 'moz-firefox', env, downloadsPath, firefoxUserPrefs });
    }

    async #launch(type, program, options) {
        if (!existsSync(program)) throw new Error(`There is no ${program}: run scripts/deps`);
        const server = await type.launchServer({ host: '127.0.0.1', ...options });
        const child = server.process();
        alive.add(child);
        child.once('exit', () => alive.delete(child));
        this.defer(() => server.close());
        return { browser: await type.connect(server.wsEndpoint()), pid: child.pid };
    }

    // The test page with PeerJS of the given version, in a context of its own; window.client is page/client.js.
    async page(browser, version, peerServer) {
        const page = await this.#open(browser, `/?peerjs=${version}&port=${peerServer.port}${peerServer.secure ? '&secure' : ''}`);
        await page.waitForFunction(() => window.client);
        return page;
    }

    // A page without PeerJS; window.driver is page/pc.js.
    async rawPage(browser) {
        const page = await this.#open(browser, '/pc.html');
        await page.waitForFunction(() => window.driver);
        return page;
    }

    async #open(browser, path) {
        this.#pages ??= serveTestPages().then((pages) => {
            this.defer(pages.close);
            return pages;
        });
        const { port } = await this.#pages;
        const context = await browser.newContext();
        const page = await context.newPage();
        page.on('pageerror', (error) => console.error(`page: ${error.message}`));
        await page.goto(`http://127.0.0.1:${port}${path}`);
        return page;
    }

    async temporaryFolder() {
        const folder = await mkdtemp(join(tmpdir(), 'datapeer-interop-'));
        // Retries: the last processes of a browser that has ended may still write there.
        this.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
        return folder;
    }
}

export class Program {
    #waiters = new Set();
    lines = [];
    onLine = null; // called with each line to come

    constructor(path, args, env) {
        this.name = [path.slice(path.lastIndexOf('/') + 1), args[0]].join(' ');
        this.child = spawn(path, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
        this.errors = '';
        alive.add(this.child);
        this.exited = new Promise((resolve) => {
            this.child.once('error', (error) => resolve({ error }));
            this.child.once('close', (code, signal) => resolve({ code, signal })); // all that it has printed was read
        });
        this.exited.then(() => alive.delete(this.child));
        this.child.stdin.on('error', () => {}); // told by exited
        this.child.stderr.on('data', (data) => (this.errors = (this.errors + data).slice(-4000)));
        createInterface({ input: this.child.stdout }).on('line', (line) => {
            this.lines.push(line);
            this.onLine?.(line);
            for (const waiter of [...this.#waiters]) waiter(line);
        });
    }

    // The first line, past or future, that accepts() likes.
    async waitLine(accepts, deadline = DEADLINE) {
        const past = this.lines.find(accepts);
        if (past !== undefined) return past;
        let waiter;
        const line = new Promise((resolve) => {
            waiter = (text) => accepts(text) && resolve(text);
            this.#waiters.add(waiter);
        });
        const gone = this.exited.then((how) => {
            throw new Error(`${this.name} ended (${how.error?.message ?? how.signal ?? how.code}): ${this.errors}`);
        });
        try {
            return await within(deadline, `a line of ${this.name}`, Promise.race([line, gone]));
        } finally {
            this.#waiters.delete(waiter);
        }
    }

    write(object) {
        this.child.stdin.write(JSON.stringify(object) + '\n');
    }

    // The files that it has open.
    async openFiles() {
        const folder = `/proc/${this.child.pid}/fd`;
        const paths = await Promise.all((await readdir(folder)).map((fd) => readlink(join(folder, fd)).catch(() => '')));
        return paths.filter((path) => path.startsWith('/') && !path.startsWith('/dev/'));
    }

    get running() {
        return this.child.exitCode === null && this.child.signalCode === null;
    }

    // Asks it to end; resolves with {code, signal}.
    async stop() {
        this.child.kill('SIGTERM');
        const timer = setTimeout(() => this.child.kill('SIGKILL'), 5000);
        const how = await this.exited;
        clearTimeout(timer);
        return how;
    }
}

// `datapeer peer`: JSON lines, matched by id.
export class PeerDriver {
    #next = 1;
    #waiting = new Map(); // by id

    constructor(program) {
        this.program = program;
        this.gone = program.exited.then((how) => {
            throw new Error(`${program.name} ended (${how.error?.message ?? how.signal ?? how.code}): ${program.errors}`);
        });
        this.gone.catch(() => {}); // told to who waits
        program.onLine = (line) => {
            const answer = parse(line);
            this.#waiting.get(answer?.id)?.(answer);
        };
    }

    static async start(world, peerServer) {
        const env = { PEER_SERVER_URL: peerServer.url, PEER_KEY: 'peerjs' };
        return new PeerDriver(await world.program(join(build, 'datapeer'), ['peer'], { env, ready: (line) => parse(line)?.ready === true }));
    }

    // The answer; an answer with error is thrown.
    async call(op, fields = {}, deadline = DEADLINE) {
        const id = this.#next++;
        const came = new Promise((resolve) => this.#waiting.set(id, resolve));
        this.program.write({ id, op, ...fields });
        const answer = await within(deadline, `the answer to ${op}`, Promise.race([came, this.gone])).finally(() => this.#waiting.delete(id));
        if (answer.error !== undefined) throw new Error(answer.error);
        return answer;
    }
}

export function within(milliseconds, what, promise) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${what} did not come within ${milliseconds} ms`)), milliseconds);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// For what has no event of its own: looks every 50 ms.
export async function until(milliseconds, what, holds) {
    const end = Date.now() + milliseconds;
    while (!(await holds())) {
        if (Date.now() > end) throw new Error(`${what}: not within ${milliseconds} ms`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

export function parse(line) {
    try {
        return JSON.parse(line);
    } catch {
        return undefined;
    }
}

// http://127.0.0.1:PORT/?peerjs=VERSION&port=PORT_OF_THE_PEERSERVER
async function serveTestPages() {
    const script = 'text/javascript';
    const files = {
        '/': ['index.html', 'text/html'],
        '/client.js': ['client.js', script],
        '/start.js': ['start.js', script],
        '/pc.html': ['pc.html', 'text/html'],
        '/pc.js': ['pc.js', script],
    };
    const server = createServer(async (request, response) => {
        const path = new URL(request.url, 'http://localhost').pathname;
        const version = VERSIONS.find((known) => path === `/peerjs-${known}.js`);
        const [name, type] = version ? [`../node_modules/peerjs-${version}/dist/peerjs.min.js`, 'text/javascript'] : (files[path] ?? []);
        if (!name) return response.writeHead(404).end();
        response.setHeader('Content-Type', `${type}; charset=utf-8`);
        response.end(await readFile(join(here, '../page', name)));
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    const close = async () => {
        server.closeAllConnections();
        await new Promise((done) => server.close(done));
    };
    return { port: server.address().port, close };
}
