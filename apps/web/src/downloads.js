// The panel of downloads at the foot of the page.
import { Download } from './download.js';
import { h, icon } from './dom.js';
import { formatDuration, formatSize } from './format.js';
import { openSink } from './save.js';
import { aboutError } from './words.js';

export class DownloadPanel {
    #section;
    #list;
    #announcement;
    #running = new Set();

    // announcement: read aloud by screen readers; progress is not, only how it ends.
    constructor(section, list, announcement) {
        this.#section = section;
        this.#list = list;
        this.#announcement = announcement;
        window.addEventListener('beforeunload', (event) => {
            if (this.#running.size > 0) event.preventDefault();
        });
    }

    // Called from a click.
    async start(link, path, entry) {
        let sink;
        try {
            sink = await openSink(entry.name, entry.size);
        } catch (error) {
            if (error.name === 'AbortError') return; // the person closed the picker
            throw error;
        }
        const download = new Download(link, path, entry, sink);
        const item = this.#item(download, () => this.start(link, path, entry));
        this.#list.prepend(item);
        this.#section.hidden = false;
        this.#running.add(download);
        await download.run();
        this.#running.delete(download);
        this.#announcement.textContent = `${download.name}: ${describe(download)}`;
    }

    // When another device is chosen.
    cancelAll() {
        for (const download of this.#running) download.cancel();
    }

    #item(download, again) {
        const bar = h('progress', { max: 1, 'aria-label': `Progress of ${download.name}` });
        const text = h('p', { class: 'progress-text' });
        const cancel = h('button', { type: 'button', class: 'small', onclick: () => download.cancel() }, 'Cancel');
        const retry = h('button', { type: 'button', class: 'small', hidden: true }, 'Try again');
        const remove = h('button', { type: 'button', class: 'icon-button', hidden: true, 'aria-label': 'Remove from the list' }, icon('close'));
        const head = h('div', { class: 'head' }, h('span', { class: 'label' }, download.name), cancel, retry, remove);
        const item = h('li', {}, head, bar, text);
        const takeAway = () => {
            item.remove();
            this.#section.hidden = this.#list.children.length === 0;
        };
        remove.addEventListener('click', takeAway);
        retry.addEventListener('click', () => {
            takeAway();
            again();
        });
        const update = () => {
            item.dataset.state = download.state;
            bar.value = download.size > 0 ? download.received / download.size : Number(download.state === 'done');
            bar.hidden = !download.active;
            text.textContent = describe(download);
            cancel.hidden = !download.active;
            remove.hidden = download.active;
            retry.hidden = download.state !== 'failed' && download.state !== 'cancelled';
        };
        download.addEventListener('change', update);
        update();
        return item;
    }
}

function describe(download) {
    const size = formatSize(download.size);
    switch (download.state) {
        case 'done':
            return `Saved, ${size}`;
        case 'cancelled':
            return 'Cancelled';
        case 'failed':
            return aboutError(download.error, 'file');
        case 'waiting':
            return `${formatSize(download.received)} of ${size}. Goes on when the connection is back.`;
        default: {
            const percent = download.size > 0 ? Math.floor((download.received * 100) / download.size) : 100;
            const words = [`${percent} %`, `${formatSize(download.received)} of ${size}`];
            if (download.speed > 0) {
                words.push(`${formatSize(download.speed)}/s`, formatDuration((download.size - download.received) / download.speed));
            }
            return words.join(' · ');
        }
    }
}
