// Where to connect: from the page's own address, and from the config.json that whoever serves the page may put next to it.

// "#ID", or "#id=ID&path=/a/b&server=https://HOST:PORT/PATH&key=KEY&token=ACCESS-TOKEN".
export function parseAddress(location) {
    const fragment = location.hash.slice(1);
    const params = new URLSearchParams(location.search);
    if (/[=&]/.test(fragment)) {
        for (const [name, value] of new URLSearchParams(fragment)) params.set(name, value);
    } else if (fragment !== '') {
        params.set('id', decode(fragment));
    }
    return {
        id: (params.get('id') ?? '').trim(),
        path: normalizePath(params.get('path') ?? ''),
        server: params.get('server') ?? '',
        key: params.get('key') ?? '',
        token: params.get('token') ?? '',
    };
}

export function formatAddress(address, path) {
    const params = new URLSearchParams({ id: address.id });
    if (path !== '') params.set('path', path);
    if (address.server !== '') params.set('server', address.server);
    if (address.key !== '') params.set('key', address.key);
    if (address.token !== '') params.set('token', address.token);
    // Slashes are allowed in a fragment, and a person can read them.
    return '#' + params.toString().replaceAll('%2F', '/');
}

// Paths are relative to the served root and "/"-separated; "" is the root.
export function normalizePath(path) {
    return path.split('/').filter((part) => part !== '').join('/');
}

// PeerJS options. A PeerServer that is named nowhere is expected where the page comes from, in the same folder.
export function peerOptions(address, config, location) {
    const url = serverUrl(address.server || config.server || '', location);
    const secure = url.protocol === 'https:';
    const options = {
        host: url.hostname,
        port: Number(url.port) || (secure ? 443 : 80),
        path: url.pathname,
        secure,
        key: address.key || config.key || 'peerjs',
        debug: 0,
    };
    // What the PeerServer lets us in by begins our token; its end is ours alone. PeerJS puts it into an URL as it is.
    if (address.token !== '') options.token = encodeURIComponent(address.token) + Math.random().toString(36).slice(2);
    // Without iceServers in the config PeerJS uses its own default servers.
    if (Array.isArray(config.iceServers)) options.config = { iceServers: [...config.iceServers, ...ownStun(config, location)] };
    return options;
}

// Whoever serves the page may be a STUN server, too: by the name that led here.
function ownStun(config, location) {
    return config.stunPort > 0 ? [{ urls: `stun:${location.hostname}:${config.stunPort}` }] : [];
}

function serverUrl(text, location) {
    const base = new URL('.', location.href);
    if (text === '') return base;
    const url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `${base.protocol}//${text}`);
    const web = { 'ws:': 'http:', 'wss:': 'https:', 'http:': 'http:', 'https:': 'https:' }[url.protocol];
    if (!web) throw new TypeError(`${url.protocol}// is no PeerServer address`);
    // The URL standard forbids changing ws: to http: in place.
    return new URL(web + url.href.slice(url.protocol.length));
}

function decode(text) {
    try {
        return decodeURIComponent(text);
    } catch {
        return text;
    }
}
