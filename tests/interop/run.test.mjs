// `make run` after the build: scripts/run, as a newcomer uses it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { root, until, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 90000 };
after(() => world.close());

const OPEN = /^Open (http:\/\/127\.0\.0\.1:\d+\/#my-disk) /;

async function start() {
    const run = await world.program(join(root, 'scripts/run'), [], { env: { PORT: '', DIR: '', ID: '' }, ready: (line) => OPEN.test(line) });
    const { pid } = run.child;
    const children = (await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim().split(' ').map(Number);
    assert.equal(children.length, 2);
    return { run, children };
}

const gone = (pids) => until(10000, 'the end of the children', () => pids.every((pid) => !existsSync(`/proc/${pid}`)));

test('one line says what to open; there 50 MB are downloaded; Ctrl-C ends it all', limit, async () => {
    const { run, children } = await start();
    assert.equal(run.lines.length, 1);
    const [, address] = OPEN.exec(run.lines[0]);
    const { browser } = await world.chromium();
    const page = await browser.newPage({ acceptDownloads: true });
    await page.goto(address);
    const [saved] = await Promise.all([page.waitForEvent('download', { timeout: 60000 }), page.getByText('50 MB.bin', { exact: true }).click()]);
    const path = join(await world.temporaryFolder(), 'saved');
    await saved.saveAs(path);
    const [got, sent] = (await Promise.all([path, join(root, 'build/sample/50 MB.bin')].map((name) => readFile(name))))
        .map((bytes) => createHash('sha256').update(bytes).digest('hex'));
    assert.equal(got, sent);

    run.child.kill('SIGINT');
    assert.deepEqual(await within(10000, 'the end', run.exited), { code: 0, signal: null });
    await gone(children);
});

test('when a part of it dies, it says which, and ends the rest', limit, async () => {
    const { run, children } = await start();
    process.kill(children[1], 'SIGKILL');
    assert.equal((await within(10000, 'the end', run.exited)).code, 1);
    assert.match(run.errors, /datapeer serve ended by SIGKILL/);
    await gone(children);
});
