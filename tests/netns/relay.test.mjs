// Where no direct way is, coturn relays; and what its users hear when it doesn't.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { certificate, CORE, Internet, limits, restUser, STUN, USER } from './lib/internet.mjs';

const UDP = `turn:${CORE[4]}`;
const TCP = `turn:${CORE[4]}?transport=tcp`;
const TLS = `turns:${CORE.name}:443`;

const servers = (...urls) => urls.flatMap((url) => ['--ice-server', url]);
const user = (text = USER) => ['--turn-user', text];

// What firewalls of the site leave through to the outside.
const noUdp = ['iifname "lan" meta l4proto udp drop'];
const webOnly = [...noUdp, 'iifname "lan" meta l4proto tcp tcp dport != { 80, 443 } drop'];

const symmetric = { nat: 'symmetric', families: [4] };
const restricted = { nat: 'restricted', families: [4] };

const quiet = []; // without -v, what a person sees

// Ways of the data as the one who gets sees them: coturn's addresses are relays.
const relay = '(203\\.0\\.113\\.1|\\[2001:db8::1\\]):\\d+';
const relayed = new RegExp(relay);
const relayedHere = new RegExp(`^${relay}`);
const relayedTwice = new RegExp(`^${relay} -> ${relay}$`);

// A device at one site, a host at the other, a PeerServer and coturn. device: options of the device.
async function setting(t, sites, device, coturn) {
    const net = await Internet.create(t);
    const here = await net.host('a', await net.site(sites[0]));
    const there = await net.host('b', await net.site(sites[1]));
    await net.peerServer();
    const turnserver = await net.coturn(coturn);
    await net.device(here, device(net));
    return { net, there, turnserver };
}

async function fetched(t, { sites, device, options = device, coturn }) {
    const { net, there, turnserver } = await setting(t, sites, device, coturn);
    const download = await net.get(there, options(net));
    await download.finished();
    return { download, turnserver };
}

describe('coturn relays', { concurrency: 3 }, () => {
    test('two symmetric NATs: over UDP', limits, async (t) => {
        const { download } = await fetched(t, { sites: [symmetric, symmetric], device: () => [...servers(UDP), ...user()] });
        assert.match(download.way, relayed);
    });

    test('a symmetric NAT and one that is as strict; only one side has the relay', limits, async (t) => {
        // The device must know its public address: the relay lets in those alone whom it was told of.
        const options = () => [...servers(UDP), ...user()];
        const { download } = await fetched(t, { sites: [restricted, symmetric], device: () => servers(STUN), options });
        assert.match(download.way, relayedHere);
    });

    test('UDP is blocked: over TCP', limits, async (t) => {
        const device = () => [...servers(UDP, TCP), ...user()];
        const { download } = await fetched(t, { sites: [restricted, { families: [4], forward: noUdp }], device });
        assert.match(download.way, relayedHere);
    });

    test('only ports 80 and 443 are open: over TLS', limits, async (t) => {
        const device = (net) => [...servers(UDP, TCP, TLS), ...user(), '--turn-ca', net.authority];
        const { download } = await fetched(t, { sites: [restricted, { families: [4], forward: webOnly }], device });
        assert.match(download.way, relayedHere);
    });

    test('only ports 80 and 443 are open to both: over TLS at both ends', limits, async (t) => {
        const device = (net) => [...servers(TLS), ...user(), '--turn-ca', net.authority];
        const web = { families: [4], forward: webOnly };
        const { download } = await fetched(t, { sites: [web, web], device });
        assert.match(download.way, relayedTwice);
    });

    test('with credentials for an hour, as a web service hands them out', limits, async (t) => {
        const device = () => [...servers(UDP), ...user(restUser())];
        const { download } = await fetched(t, { sites: [symmetric, symmetric], device, coturn: { rest: true } });
        assert.match(download.way, relayed);
    });

    test('because we want it: no address of ours is told', limits, async (t) => {
        const device = () => [...servers(UDP), ...user(), '--relay-only'];
        const { download } = await fetched(t, { sites: [{ nat: 'none' }, { nat: 'none' }], device });
        assert.match(download.way, relayedTwice);
    });
});

describe('coturn does not relay', { concurrency: 3 }, () => {
    test('the authority of its certificate is not the one we trust', limits, async (t) => {
        const { net, there } = await setting(t, [restricted, { families: [4], forward: webOnly }], () => []);
        const folder = await net.temporaryFolder();
        certificate(folder);
        const download = await net.get(there, [...servers(TLS), ...user(), '--turn-ca', `${folder}/authority.pem`], quiet);
        assert.equal(await download.failed(), 3);
        assert.match(download.log, /^datapeer: .*certificate/m);
    });

    test('a wrong password is reported, and a direct way taken', limits, async (t) => {
        const options = () => [...servers(UDP), ...user('alice:guess')];
        const { download } = await fetched(t, { sites: [restricted, restricted], device: options });
        assert.doesNotMatch(download.way, relayed);
        assert.match(download.log, /password/);
    });

    test('a wrong password is why there is no way', limits, async (t) => {
        const { net, there } = await setting(t, [restricted, { families: [4], forward: noUdp }], () => []);
        const download = await net.get(there, [...servers(TCP), ...user('alice:guess')], quiet);
        assert.equal(await download.failed(), 3);
        assert.match(download.log, /^datapeer: .*password/m);
    });
});
