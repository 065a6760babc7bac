// How long a connection takes through real kernels and NATs (tests/netns/lib), links without delay: `datapeer serve` at one place,
// `datapeer peer` at another, which opens one connection after another. Median and 90th percentile of two times:
//
// - open: from the command to the open channel: candidates, offer and answer through the PeerServer, ICE, DTLS, SCTP
// - ICE: the opener's, from 'checking' (the answer has come) to 'connected' (a pair is nominated), by when its log lines came; DTLS need
//   not wait for that, so the channel may be open before
//
//     netns.mjs [RUNS]: 50 without; needs root
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { build, parse, PeerDriver } from '../tests/interop/lib/world.mjs';
import { CORE, Internet, limits, STUN, USER } from '../tests/netns/lib/internet.mjs';

const RUNS = Number(process.argv[2] ?? 50);

const open = { nat: 'none', families: [4] };
const restricted = { nat: 'restricted', families: [4] };
const symmetric = { nat: 'symmetric', families: [4] };
const stun = ['--ice-server', STUN];
const turn = ['--ice-server', `turn:${CORE[4]}`, '--turn-user', USER];

// sites: the device's and the opener's; one: they share its link.
const cases = [
    { name: 'no NAT, one link', sites: [restricted], options: [] },
    { name: 'one NAT, before the device, STUN', sites: [restricted, open], options: stun },
    { name: 'one NAT, before the opener, STUN', sites: [open, restricted], options: stun },
    { name: 'two port-restricted NATs, STUN', sites: [restricted, restricted], options: stun },
    { name: 'two symmetric NATs, relay by UDP', sites: [symmetric, symmetric], options: turn },
];

// Calls measure with the Internet of a case and a program there that opens connections; removes both.
async function setting({ sites, options }, measure) {
    let close;
    const net = await Internet.create({ after: (closer) => (close = closer) });
    try {
        const places = [];
        for (const site of sites) places.push(await net.site(site));
        const [here, there] = [await net.host('a', places[0]), await net.host('b', places.at(-1))];
        await net.peerServer();
        if (options.length > 0) await net.coturn();
        await net.device(here, options);
        const args = ['peer', '--server', net.server, '-v', '-v', ...options];
        return await measure(await there.started(join(build, 'datapeer'), args, { ready: (line) => parse(line)?.ready }));
    } finally {
        await close();
    }
}

async function measure(opener) {
    const driver = new PeerDriver(opener);
    const [checking, connected] = ['info ice: new -> checking', 'info ice: checking -> connected'];
    const came = new Map(); // line: when, last
    createInterface({ input: opener.child.stdout }).on('line', (line) => came.set(line, performance.now()));
    const runs = [];
    for (let i = 0; i < RUNS; i++) {
        opener.lines = []; // the driver would look through them for its answer, while the clock runs
        const start = performance.now();
        const { conn } = await driver.call('open', { peer: 'device' });
        const opened = performance.now() - start;
        await opener.waitLine((line) => line === connected);
        runs.push({ open: opened, ice: came.get(connected) - came.get(checking) });
        await driver.call('close', { conn, flush: true });
    }
    return runs;
}

function percentile(runs, what, share) {
    const times = runs.map((run) => run[what]).sort((a, b) => a - b);
    return times[Math.floor(times.length * share)].toFixed(1).padStart(9);
}

if (limits.skip) {
    console.error(limits.skip);
    process.exit(1);
}
console.log(`${`ms, ${RUNS} runs of each`.padEnd(36)}open: median       p90  ICE: median       p90`);
for (const one of cases) {
    const runs = await setting(one, measure);
    const [median, p90] = [0.5, 0.9].map((share) => (what) => percentile(runs, what, share));
    console.log(`${one.name.padEnd(36)}   ${median('open')} ${p90('open')}    ${median('ice')} ${p90('ice')}`);
}
