// Drivers of docs/interop.md, part 1: `datapeer pc` and a browser's page, with the same commands and events; and what carries
// descriptions and candidates from one to the other.
import { join } from 'node:path';
import { sha256 } from './pattern.mjs';
import { build, DEADLINE, parse, within } from './world.mjs';

// Part 1, "Content".
export function content(size, seed, binary = true) {
    const bytes = Buffer.alloc(size);
    for (let i = 0; i < size; i++) {
        const byte = (seed * 131 + i * 7 + (i >> 8)) & 255;
        bytes[i] = binary ? byte : 65 + (byte % 26);
    }
    return bytes;
}

// The event that a message of this content makes.
export function message(label, size, seed, binary = true) {
    return { ev: 'message', label, binary, size, sha256: sha256(content(size, seed, binary)) };
}

class Driver {
    #events = []; // those that nobody has waited for yet
    #waiters = [];
    peer = null;
    sdp = null; // its description
    maxMessageSize = 0; // the largest that it takes
    minMessageSize = 0; // the smallest that it sends
    maxLabelSize = 65535;
    brokenUnordered = false; // forgets it in an OPEN with a limit; never resets a stream on which all that it sent was unordered
    reusesIds = true; // of channels that it opened: the lowest one that is free
    states = [];

    #note({ sdp }) {
        this.sdp = sdp;
        const size = Number(/^a=max-message-size:(\d+)/m.exec(sdp)?.[1] ?? 65536);
        this.maxMessageSize = size === 0 ? Infinity : size;
    }

    take(event) {
        if (event.ev === 'description') {
            this.#note(event);
            this.peer?.command({ cmd: 'description', type: event.type, sdp: event.sdp });
        } else if (event.ev === 'candidate') {
            const { candidate, sdpMid, sdpMLineIndex } = event;
            this.peer?.command({ cmd: 'candidate', candidate, sdpMid, sdpMLineIndex });
        } else if (event.ev === 'state') {
            this.states.push(event.state);
        }
        const waiting = this.#waiters.findIndex(({ accepts }) => accepts(event));
        if (waiting >= 0) this.#waiters.splice(waiting, 1)[0].resolve(event);
        else if (event.ev === 'error') this.fail(new Error(`${this.name}: ${JSON.stringify(event)}`));
        else this.#events.push(event);
    }

    // What nobody expects ends all that is waited for.
    fail(error) {
        this.error ??= error;
        for (const { reject } of this.#waiters.splice(0)) reject(error);
    }

    // The first event of this kind, past or future, that has not been waited for; filter is its label, or a function.
    async wait(ev, filter = () => true, deadline = DEADLINE) {
        const fits = typeof filter === 'string' ? ({ label }) => label === filter : filter;
        const accepts = (event) => event.ev === ev && fits(event);
        const past = this.#events.findIndex(accepts);
        if (past >= 0) return this.#events.splice(past, 1)[0];
        if (this.error) throw this.error;
        let waiter;
        const came = new Promise((resolve, reject) => {
            waiter = { accepts, resolve, reject };
            this.#waiters.push(waiter);
        });
        try {
            return await within(deadline, `${this.name}: ${ev} ${typeof filter === 'string' ? filter : ''}`, came);
        } finally {
            this.#waiters = this.#waiters.filter((other) => other !== waiter);
        }
    }

    has(ev, label) {
        return this.#events.some((event) => event.ev === ev && event.label === label);
    }

    command(line) {
        this.commands([line]);
    }

    // Drops everything and starts over.
    async reset(role, trickle) {
        this.peer = null;
        this.command({ cmd: 'reset', role, trickle });
        await this.wait('ready');
        this.#events = [];
        this.states = [];
        this.error = undefined;
    }
}

// A program that speaks the protocol.
export class ProgramDriver extends Driver {
    static async start(world, name, path, args) {
        const driver = new this();
        const isReady = (line) => parse(line)?.ev === 'ready';
        driver.name = name;
        driver.program = await world.program(path, args, { ready: isReady });
        driver.ready = parse(driver.program.lines.find(isReady));
        driver.program.onLine = (line) => driver.take(parse(line));
        driver.program.exited.then(({ code }) => driver.fail(new Error(`${name} ended with ${code}: ${driver.program.errors}`)));
        return driver;
    }

    commands(lines) {
        for (const line of lines) this.program.write(line);
    }
}

// `datapeer pc`, with its role and options.
export function startDatapeer(world, ...args) {
    return ProgramDriver.start(world, 'datapeer', join(build, 'datapeer'), ['pc', ...args]);
}

export class PageDriver extends Driver {
    #page;
    #sent = Promise.resolve();

    // The page is open as long as its browser is.
    static async start(world, name, browser, role, trickle) {
        const driver = new PageDriver();
        driver.name = name;
        driver.reusesIds = name !== 'firefox'; // takes the next one
        driver.#page = await world.rawPage(browser);
        driver.#listen();
        await driver.reset(role, trickle);
        return driver;
    }

    async #listen() {
        try {
            for (;;) for (const event of await this.#page.evaluate(() => driver.events())) this.take(event);
        } catch (error) {
            this.fail(error);
        }
    }

    commands(lines) {
        this.#sent = this.#sent.then(() => this.#page.evaluate((some) => driver.commands(some), lines)).catch((error) => this.fail(error));
    }
}

// Opens the first channel and connects; resolves when both have it.
export async function connect(offerer, answerer) {
    const label = 'first';
    offerer.peer = answerer;
    answerer.peer = offerer;
    offerer.commands([{ cmd: 'open', label }, { cmd: 'start' }]);
    const [own, incoming] = await Promise.all([offerer.wait('open', label), answerer.wait('open', label)]);
    return { own, incoming };
}
