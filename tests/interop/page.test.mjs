// The page of apps/web as a person uses it: one `datapeer serve` is the device, its PeerServer and where the page comes from.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pattern, sha256 } from './lib/pattern.mjs';
import { root, until, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 90000 };
const HOSTILE = '<img src=x onerror="document.title=1">.txt';
const big = pattern(50e6, 1);
let home, folder, downloads, chromium, origin;

before(async () => {
    downloads = await world.temporaryFolder();
    folder = join(await world.temporaryFolder(), 'disk');
    await mkdir(join(folder, 'Photos of 2026', 'Été 😀'), { recursive: true });
    await mkdir(join(folder, 'empty'));
    await mkdir(join(folder, 'many'));
    await writeFile(join(folder, 'Photos of 2026', 'Été 😀', '100 % of it & more #1?.txt'), 'inside');
    await writeFile(join(folder, 'big.bin'), big);
    await writeFile(join(folder, 'nothing.bin'), '');
    await writeFile(join(folder, HOSTILE), 'hostile');
    for (const [name, size] of [['larger.bin', 80e6], ['huge.bin', 4e9]]) {
        await writeFile(join(folder, name), '');
        await truncate(join(folder, name), size);
    }
    await symlink('/etc/passwd', join(folder, 'way out'));
    execFileSync('mkfifo', [join(folder, 'pipe')]);
    await Promise.all(Array.from({ length: 10001 }, (_, i) => writeFile(join(folder, 'many', `file ${i}`), '')));
    await utimes(join(folder, 'big.bin'), new Date(2026, 0, 2), new Date(2026, 0, 2, 3, 4));

    home = await world.home(folder, 'my-disk');
    origin = new URL(home.page).origin;
    chromium = await world.chromium();
    await mkdir(join(root, 'build/screenshots'), { recursive: true });
});
after(() => world.close());

// fragment: or a whole address. Any error in the page's console fails the test that closes it.
async function open(fragment = '#my-disk', options = {}, { browser } = chromium) {
    const context = await browser.newContext({ acceptDownloads: true, ...options });
    context.setDefaultTimeout(30000);
    const page = await context.newPage();
    page.errors = [];
    page.on('pageerror', (error) => page.errors.push(error.message));
    page.on('console', (message) => message.type() === 'error' && page.errors.push(message.text()));
    await page.goto(new URL(fragment, `${origin}/`).href);
    return page;
}

async function close(page) {
    assert.deepEqual(page.errors, []);
    await page.context().close();
}

const status = (page, text) => page.locator('#status-text', { hasText: text }).waitFor();
const entry = (page, name) => page.locator('.entry', { has: page.getByText(name, { exact: true }) });
const names = (page) => page.locator('.entry .label').allTextContents();

// Clicks on a file; returns {name, sha256} of what was saved.
async function download(page, name) {
    const [saved] = await Promise.all([page.waitForEvent('download', { timeout: 60000 }), entry(page, name).click()]);
    return { name: saved.suggestedFilename(), sha256: await hashSaved(saved) };
}

async function hashSaved(saved) {
    const path = join(downloads, 'saved');
    await saved.saveAs(path);
    const hash = createHash('sha256');
    for await (const piece of createReadStream(path)) hash.update(piece);
    return hash.digest('hex');
}

describe('folders', () => {
    test('are listed, folders first, names as text', limit, async () => {
        const page = await open();
        await status(page, 'Connected');
        await entry(page, 'big.bin').waitFor();
        assert.deepEqual((await names(page)).slice(0, 3), ['empty', 'many', 'Photos of 2026']);
        assert.ok((await names(page)).includes(HOSTILE));
        assert.equal(await page.locator('main img').count(), 0);
        const row = page.locator('tr', { has: entry(page, 'big.bin') });
        assert.equal(await row.locator('td.size').textContent(), '50 MB');
        assert.match(await row.locator('td.mtime').textContent(), /2026/);
        for (const name of ['way out', 'pipe']) {
            assert.equal(await page.locator('tr', { has: entry(page, name) }).getAttribute('data-type'), 'other');
        }
        assert.equal(await page.title(), 'my-disk – datapeer');

        await page.getByRole('button', { name: 'Size' }).click();
        await page.getByRole('button', { name: 'Size' }).click();
        assert.deepEqual((await names(page)).slice(3, 6), ['huge.bin', 'larger.bin', 'big.bin']);
        await close(page);
    });

    test('are entered and left by keyboard, path and history', limit, async () => {
        const page = await open();
        await entry(page, 'Photos of 2026').focus();
        await page.keyboard.press('Enter');
        await entry(page, 'Été 😀').focus();
        await page.keyboard.press('Enter');
        const file = '100 % of it & more #1?.txt';
        await entry(page, file).waitFor();
        assert.deepEqual(await page.locator('#breadcrumbs li').allTextContents(), ['Files', 'Photos of 2026', 'Été 😀']);
        await page.reload();
        assert.equal((await download(page, file)).sha256, sha256('inside'));
        await page.goBack();
        await entry(page, 'Été 😀').waitFor();
        await page.locator('#breadcrumbs').getByText('Files').click();
        await entry(page, 'big.bin').waitFor();
        await entry(page, 'empty').click();
        await page.getByText('This folder is empty.').waitFor();
        await close(page);
    });

    test('that are very large are shown in part, and the page says so', limit, async () => {
        const page = await open('#id=my-disk&path=many');
        await page.getByText('only its first 10000 entries are shown').waitFor();
        await close(page);
    });

    test('that do not exist are an error with a way back', limit, async () => {
        const page = await open('#id=my-disk&path=no/such/folder');
        await page.getByRole('alert').getByText('This folder does not exist').waitFor();
        await page.getByText('To the first folder').click();
        await entry(page, 'big.bin').waitFor();
        await page.goto(`${origin}/#id=my-disk&path=../..`);
        await page.getByRole('alert').getByText('does not allow access').waitFor();
        await close(page);
    });
});

describe('downloads', () => {
    test('50 MB, with progress', limit, async () => {
        const page = await open();
        await entry(page, 'big.bin').waitFor();
        await page.evaluate(() => {
            const list = document.getElementById('download-list');
            window.seen = [];
            new MutationObserver(() => window.seen.push(list.innerText)).observe(list, { subtree: true, childList: true, characterData: true });
        });
        assert.deepEqual(await download(page, 'big.bin'), { name: 'big.bin', sha256: sha256(big) });
        await page.locator('#download-list').getByText('Saved, 50 MB').waitFor();
        const seen = (await page.evaluate(() => window.seen)).join('\n');
        assert.match(seen, /\b[1-9]\d? % · .* MB of 50 MB · .* MB\/s · \d+ s left/);
        await close(page);
    });

    test('an empty file, and a hostile name', limit, async () => {
        const page = await open();
        assert.deepEqual(await download(page, 'nothing.bin'), { name: 'nothing.bin', sha256: sha256('') });
        assert.equal((await download(page, HOSTILE)).sha256, sha256('hostile'));
        assert.equal(await page.locator('#downloads img').count(), 0);
        assert.equal(await page.title(), 'my-disk – datapeer');
        await close(page);
    });

    test('a large file goes straight to the disk where the browser can do that', limit, async () => {
        const page = await open();
        // Headless Chromium has no file picker that a test could use: this one keeps count instead of bytes.
        await page.evaluate(() => {
            window.saved = { bytes: 0, wrong: 0, closed: false };
            window.showSaveFilePicker = async ({ suggestedName }) => {
                window.saved.name = suggestedName;
                return {
                    createWritable: async () => ({
                        write: async (blob) => {
                            window.saved.bytes += blob.size;
                            if (new Uint8Array(await blob.arrayBuffer()).some((byte) => byte !== 0)) window.saved.wrong += 1;
                        },
                        close: async () => (window.saved.closed = true),
                        abort: async () => {},
                    }),
                };
            };
        });
        await entry(page, 'larger.bin').click();
        await page.locator('#download-list').getByText('Saved, 80 MB').waitFor({ timeout: 60000 });
        assert.deepEqual(await page.evaluate(() => window.saved), { bytes: 80e6, wrong: 0, closed: true, name: 'larger.bin' });
        await close(page);
    });

    test('can be cancelled', limit, async () => {
        const page = await open();
        await page.evaluate(() => delete window.showSaveFilePicker);
        await entry(page, 'huge.bin').click();
        const item = page.locator('#download-list li');
        await item.getByText('MB/s').waitFor();
        await item.getByRole('button', { name: 'Cancel' }).click();
        await item.getByText('Cancelled').waitFor();
        await item.getByRole('button', { name: 'Remove' }).click();
        await page.locator('#downloads').waitFor({ state: 'hidden' });
        // What was asked for ahead still comes; then the device has nothing more to do.
        await until(30000, 'the file closed by the device', async () => !(await home.program.openFiles()).some((path) => path.endsWith('huge.bin')));
        await close(page);
    });

    test('a file that is gone is an error', limit, async () => {
        const gone = join(folder, 'gone soon');
        await writeFile(gone, 'x');
        const page = await open();
        await entry(page, 'gone soon').waitFor();
        execFileSync('rm', [gone]);
        await entry(page, 'gone soon').click();
        await page.locator('#download-list').getByText('This file does not exist (any more)').waitFor();
        await close(page);
    });
});

describe('the connection', () => {
    test('without an id the page asks for it', limit, async () => {
        const page = await open('');
        await page.getByLabel('Name of the device').fill('my-disk');
        await page.keyboard.press('Enter');
        await entry(page, 'big.bin').waitFor();
        await close(page);
    });

    test('a device that is not there is told, and found as soon as it is', limit, async () => {
        const page = await open('#not-here');
        await page.getByText('The device is not online').waitFor();
        await status(page, 'Not connected');
        const late = await world.device(home, folder, 'not-here');
        // Its own next try may come first.
        await page.getByRole('button', { name: 'Try again' }).or(entry(page, 'big.bin')).first().waitFor();
        await page.evaluate(() => document.getElementById('retry').click());
        await entry(page, 'big.bin').waitFor();
        await close(page);
        await late.stop();
    });

    test('a download goes on when the device comes back', limit, async () => {
        let device = await world.device(home, folder, 'shaky');
        const page = await open('#shaky');
        const saved = page.waitForEvent('download', { timeout: 60000 });
        await entry(page, 'big.bin').click();
        await page.locator('#download-list').getByText('MB/s').waitFor();
        await device.stop();
        await status(page, 'Connection lost');
        await page.locator('#notice').getByText('The connection was lost').waitFor();
        await page.locator('#download-list').getByText('Goes on when the connection is back.').waitFor();
        device = await world.device(home, folder, 'shaky');
        assert.equal(await hashSaved(await saved), sha256(big));
        await status(page, 'Connected');
        assert.equal(await page.locator('#notice').isVisible(), false);
        await close(page);
        await device.stop();
    });

    test('by an address of the machine, where a browser gives a page less than by its own name', limit, async () => {
        const address = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === 'IPv4' && !internal).address;
        const home = await world.home(folder, 'in-the-house', ['--host', address]);
        assert.equal(home.page, `http://${address}:${home.port}/#in-the-house`);
        const page = await open(home.page);
        await status(page, 'Connected');
        assert.equal(await page.evaluate(() => isSecureContext), false);
        assert.equal((await download(page, 'big.bin')).sha256, sha256(big));
        await close(page);
        await home.program.stop();
    });

    test('an access token lets in', limit, async () => {
        const secret = join(await world.temporaryFolder(), 'token');
        await writeFile(secret, 'a b&c', { mode: 0o600 });
        const home = await world.home(folder, 'guarded', ['--access-token-file', secret]);
        const page = await open(`${new URL(home.page).origin}/#id=guarded&token=a%20b%26c`);
        await entry(page, 'Photos of 2026').click(); // the address is written anew
        await entry(page, 'Été 😀').waitFor();
        await page.reload();
        await entry(page, 'Été 😀').waitFor();
        await close(page);
        const other = await open(`${new URL(home.page).origin}/#guarded`);
        await other.getByText('The meeting point lets only some in').waitFor();
        await close(other);
        await home.program.stop();
    });

    test('a PeerServer that is not there is told', limit, async () => {
        const page = await open('#id=my-disk&server=ws://127.0.0.1:1');
        await page.getByText('The meeting point can’t be reached').waitFor();
        await page.context().close(); // its console tells of the refused connection
    });
});

test('Firefox lists the folder and downloads 50 MB', limit, async () => {
    const downloads = await world.temporaryFolder();
    const page = await open('#my-disk', {}, await world.firefox(downloads));
    await status(page, 'Connected');
    await entry(page, 'big.bin').waitFor();
    assert.deepEqual((await names(page)).slice(0, 3), ['empty', 'many', 'Photos of 2026']);
    await entry(page, 'big.bin').click();
    await page.locator('#download-list').getByText('Saved, 50 MB').waitFor();
    const saved = join(downloads, 'big.bin');
    await until(30000, 'the file written', async () => (await stat(saved).catch(() => null))?.size === big.length);
    assert.equal(sha256(await readFile(saved)), sha256(big));
    await close(page);
});

test('screenshots', limit, async () => {
    const shot = (page, name) => page.screenshot({ path: join(root, 'build/screenshots', `${name}.png`) });
    const sizes = { desktop: { width: 1100, height: 760 }, phone: { width: 390, height: 760 } };
    for (const [size, viewport] of Object.entries(sizes)) {
        for (const colorScheme of ['light', 'dark']) {
            const page = await open('#my-disk', { viewport, colorScheme, hasTouch: size === 'phone', deviceScaleFactor: size === 'phone' ? 2 : 1 });
            await download(page, HOSTILE);
            await page.evaluate(() => delete window.showSaveFilePicker);
            await entry(page, 'huge.bin').click();
            await page.locator('#download-list').getByText('s left').or(page.locator('#download-list').getByText('min left')).waitFor();
            assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'the page is wider than the screen');
            await shot(page, `folder-${size}-${colorScheme}`);
            await page.getByRole('button', { name: 'Cancel' }).click();
            await close(page);
        }
        const ask = await open('', { viewport: sizes[size] });
        await ask.getByLabel('Name of the device').waitFor();
        await shot(ask, `ask-${size}`);
        await close(ask);
        const offline = await open('#nobody', { viewport: sizes[size] });
        await offline.getByText('The device is not online').waitFor();
        await shot(offline, `offline-${size}`);
        await close(offline);
    }
});
