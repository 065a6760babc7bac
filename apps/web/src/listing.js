// The table of one folder.
import { h, icon } from './dom.js';
import { formatDate, formatSize } from './format.js';

const collator = new Intl.Collator(undefined, { numeric: true });
const COLUMNS = [
    { key: 'name', label: 'Name', compare: (a, b) => collator.compare(a.name, b.name) },
    { key: 'size', label: 'Size', compare: (a, b) => a.size - b.size },
    { key: 'mtime', label: 'Modified', compare: (a, b) => (a.mtime ?? 0) - (b.mtime ?? 0) },
];

// Folders come first, whatever the order.
export function sortEntries(entries, { key, descending }) {
    const { compare } = COLUMNS.find((column) => column.key === key);
    const rank = (entry) => (entry.type === 'directory' ? 0 : 1);
    const byName = COLUMNS[0].compare;
    return [...entries].sort((a, b) => rank(a) - rank(b) || (descending ? -1 : 1) * compare(a, b) || byName(a, b));
}

// actions: hrefOf(entry) for folders, onDownload(entry) for files, onSort(key).
export function listingTable(entries, order, actions) {
    const heads = COLUMNS.map((column) => {
        const chosen = column.key === order.key;
        const direction = order.descending ? 'descending' : 'ascending';
        const arrow = chosen ? h('span', { class: 'arrow', 'aria-hidden': 'true' }, order.descending ? '↓' : '↑') : '';
        const button = h('button', { type: 'button', onclick: () => actions.onSort(column.key) }, column.label, arrow);
        return h('th', { scope: 'col', class: column.key, 'aria-sort': chosen && direction }, button);
    });
    const rows = sortEntries(entries, order).map((entry) => row(entry, actions));
    return h('table', { class: 'listing' }, h('thead', {}, h('tr', {}, ...heads)), h('tbody', {}, ...rows));
}

function row(entry, actions) {
    const size = entry.type === 'file' ? formatSize(entry.size) : '';
    const date = formatDate(entry.mtime);
    const label = [h('span', { class: 'label' }, entry.name), h('span', { class: 'detail' }, [size, date].filter(Boolean).join(' · '))];
    let name;
    if (entry.type === 'directory') {
        name = h('a', { class: 'entry', href: actions.hrefOf(entry) }, icon('folder'), h('span', { class: 'texts' }, ...label));
    } else if (entry.type === 'file') {
        const onclick = () => actions.onDownload(entry);
        name = h('button', { class: 'entry', type: 'button', title: `Download ${entry.name}`, onclick },
            icon('file'), h('span', { class: 'texts' }, ...label), icon('download'));
    } else {
        name = h('span', { class: 'entry', title: 'Neither a file nor a folder' }, icon('other'), h('span', { class: 'texts' }, ...label));
    }
    return h('tr', { 'data-type': entry.type },
        h('td', { class: 'name' }, name),
        h('td', { class: 'size' }, size),
        h('td', { class: 'mtime' }, date));
}

// "Files › a › b": hrefOf(path) for each part but the last.
export function breadcrumbs(path, hrefOf) {
    const parts = path === '' ? [] : path.split('/');
    const items = ['Files', ...parts].map((label, depth) => {
        if (depth === parts.length) return h('li', {}, h('span', { 'aria-current': 'page' }, label));
        return h('li', {}, h('a', { href: hrefOf(parts.slice(0, depth).join('/')) }, label));
    });
    return h('ol', {}, ...items);
}
