// The page: one device, one folder at a time.
import { formatAddress, normalizePath, parseAddress, peerOptions } from './address.js';
import * as disk from './disk.js';
import { h } from './dom.js';
import { DownloadPanel } from './downloads.js';
import { Link } from './link.js';
import { breadcrumbs, listingTable } from './listing.js';
import { aboutError, aboutLink } from './words.js';

const $ = (id) => document.getElementById(id);
const downloads = new DownloadPanel($('downloads'), $('download-list'), $('announcement'));

let config = {};
let address = null;
let link = null;
let folder = null; // the listing on the screen
let order = { key: 'name', descending: false };
let loading = null; // AbortController of the listing that is under way
let countdown = 0;

async function start() {
    $('device-form').addEventListener('submit', (event) => {
        event.preventDefault();
        const id = $('device-id').value.trim();
        if (id !== '') location.hash = formatAddress({ ...parseAddress(location), id }, '');
    });
    $('another').addEventListener('click', () => {
        location.hash = '';
    });
    $('retry').addEventListener('click', () => link.retry());
    config = await loadConfig();
    window.addEventListener('hashchange', go);
    go();
}

async function loadConfig() {
    try {
        const answer = await fetch('config.json', { cache: 'no-store' });
        return answer.ok ? ((await answer.json()) ?? {}) : {};
    } catch {
        return {};
    }
}

// To what the address bar says.
function go() {
    const before = address;
    address = parseAddress(location);
    const same = before && ['id', 'server', 'key', 'token'].every((name) => before[name] === address[name]);
    if (same && link) return loadFolder();
    leave();
    show(address.id === '' ? 'ask' : 'panel');
    $('device').textContent = address.id || 'datapeer';
    $('brand').hidden = address.id === '';
    document.title = address.id === '' ? 'datapeer' : `${address.id} – datapeer`;
    if (address.id === '') {
        setStatus('', '');
        $('device-id').focus();
    } else {
        connect();
    }
}

function leave() {
    downloads.cancelAll();
    loading?.abort();
    link?.close();
    link = folder = null;
    clearInterval(countdown);
}

function connect() {
    let options;
    try {
        options = peerOptions(address, config, location);
    } catch (error) {
        return showPanel({ title: 'The address is wrong', text: `The PeerServer’s address can’t be used: ${error.message}` }, { retry: false });
    }
    link = new Link(address.id, options);
    const ours = link;
    const on = (state, fn) => link.addEventListener(state, (event) => ours === link && fn(event.detail));
    on('connecting', showConnecting);
    on('connected', () => {
        clearInterval(countdown);
        $('notice').hidden = true;
        setStatus('connected', 'Connected');
        loadFolder();
    });
    on('waiting', showWaiting);
    showConnecting();
}

// ---- states of the connection -----------------------------------------------------------------------

function showConnecting() {
    clearInterval(countdown);
    setStatus('connecting', 'Connecting…');
    if (folder) return showNotice('Connecting again…', false);
    showPanel({ title: 'Connecting…', text: `Looking for “${address.id}”.` }, { busy: true, retry: false });
}

function showWaiting({ problem, retryAt }) {
    const words = aboutLink(problem, address.id);
    setStatus('lost', problem === 'lost' ? 'Connection lost' : 'Not connected');
    const tell = () => {
        const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
        const next = retryAt === null ? '' : `Next try in ${seconds} s.`;
        if (folder) showNotice(`${words.title}. ${next}`, retryAt !== null);
        else $('panel-next').textContent = next;
    };
    if (!folder) showPanel(words, { retry: retryAt !== null });
    tell();
    clearInterval(countdown);
    if (retryAt !== null) countdown = setInterval(tell, 1000);
}

function setStatus(state, text) {
    $('status').dataset.state = state;
    $('status-text').textContent = text;
}

function show(view) {
    for (const name of ['ask', 'panel', 'browser']) $(name).hidden = name !== view;
}

function showPanel({ title, text }, { busy = false, retry = true }) {
    show('panel');
    $('panel').dataset.busy = busy;
    $('panel-title').textContent = title;
    $('panel-text').textContent = text;
    $('panel-next').textContent = '';
    $('retry').hidden = !retry;
    $('another').hidden = busy;
}

// A folder stays on the screen while the connection is made again.
function showNotice(text, retry) {
    const button = h('button', { type: 'button', class: 'small', onclick: () => link.retry() }, 'Try now');
    const notice = $('notice');
    notice.hidden = false;
    // Keeps the button, and so the keyboard focus, when only the seconds change.
    if (notice.firstChild && retry === Boolean(notice.querySelector('button'))) notice.firstChild.textContent = text;
    else notice.replaceChildren(h('span', {}, text), ...(retry ? [button] : []));
}

// ---- folders ------------------------------------------------------------------------------------------

async function loadFolder() {
    loading?.abort();
    const { rpc } = link;
    if (!rpc) return; // done as soon as it is connected
    const { path } = address;
    loading = new AbortController();
    const { signal } = loading;
    $('listing').setAttribute('aria-busy', 'true');
    try {
        const result = await disk.list(rpc, path, { signal });
        if (signal.aborted) return;
        folder = result;
        showFolder();
    } catch (error) {
        // A lost connection is told by its own state, and the folder is loaded again after it.
        if (!signal.aborted && error.kind !== 'lost') showFolderError(path, error);
    }
}

function showFolder() {
    showPath(folder.path);
    const listing = $('listing');
    listing.setAttribute('aria-busy', 'false');
    if (folder.entries.length === 0) {
        listing.replaceChildren(h('p', { class: 'empty' }, 'This folder is empty.'));
        return;
    }
    const table = listingTable(folder.entries, order, {
        hrefOf: (entry) => formatAddress(address, inFolder(entry)),
        onDownload: (entry) => downloads.start(link, inFolder(entry), entry),
        onSort: (key) => {
            order = { key, descending: order.key === key && !order.descending };
            showFolder();
            listing.querySelector(`th.${key} button`).focus();
        },
    });
    listing.replaceChildren(table);
    if (folder.truncated) {
        listing.append(h('p', { class: 'empty' }, `The folder is very large: only its first ${folder.entries.length} entries are shown.`));
    }
    if (folder.unnamed > 0) {
        listing.append(h('p', { class: 'empty' }, `${folder.unnamed} more have names that are no text (UTF-8), so they can't be reached from here.`));
    }
}

function showFolderError(path, error) {
    showPath(path);
    const listing = $('listing');
    const buttons = h('p', { class: 'buttons' }, h('button', { type: 'button', onclick: loadFolder }, 'Try again'));
    if (path !== '') buttons.append(h('a', { class: 'button', href: formatAddress(address, '') }, 'To the first folder'));
    folder = { path, entries: [], truncated: false, unnamed: 0 };
    listing.setAttribute('aria-busy', 'false');
    listing.replaceChildren(h('div', { class: 'problem', role: 'alert' }, h('p', {}, aboutError(error, 'folder')), buttons));
}

function showPath(path) {
    show('browser');
    $('breadcrumbs').replaceChildren(breadcrumbs(path, (part) => formatAddress(address, part)));
}

function inFolder(entry) {
    return normalizePath(`${folder.path}/${entry.name}`);
}

start();
