// `make run` after the build: scripts/run, as a newcomer uses it.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { root, within, World } from './lib/world.mjs';

const world = new World();
const limit = { timeout: 90000 };
after(() => world.close());

const OPEN = /^open (http:\/\/127\.0\.0\.1:\d+\/#my-disk)$/;

const start = (env = {}) => world.program(join(root, 'scripts/run'), [], { env: { PORT: '', DIR: '', ID: '', ...env }, ready: (line) => OPEN.test(line) });

async function ctrlC(run) {
    run.child.kill('SIGINT');
    assert.deepEqual(await within(10000, 'the end', run.exited), { code: 0, signal: null });
}

test('one process, one address; there 50 MB are downloaded; Ctrl-C ends it', limit, async () => {
    const run = await start();
    const { pid } = run.child;
    assert.equal(await readFile(`/proc/${pid}/comm`, 'utf8'), 'datapeer\n');
    assert.equal(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'), '');
    const [address, ...more] = run.lines.flatMap((line) => OPEN.exec(line)?.[1] ?? []);
    assert.deepEqual(more, []);
    const { browser } = await world.chromium();
    const page = await browser.newPage({ acceptDownloads: true });
    await page.goto(address);
    const [saved] = await Promise.all([page.waitForEvent('download', { timeout: 60000 }), page.getByText('50 MB.bin', { exact: true }).click()]);
    const path = join(await world.temporaryFolder(), 'saved');
    await saved.saveAs(path);
    const [got, sent] = (await Promise.all([path, join(root, 'build/sample/50 MB.bin')].map((name) => readFile(name))))
        .map((bytes) => createHash('sha256').update(bytes).digest('hex'));
    assert.equal(got, sent);
    await ctrlC(run); // with a page that is connected

    // At once again, on the same port.
    const again = await start({ PORT: new URL(address).port });
    assert.ok(again.lines.some((line) => OPEN.exec(line)?.[1] === address));
    await ctrlC(again);
});

test('a port that is taken is given to nobody else: another is found, or it is said', limit, async () => {
    const first = await start();
    const port = first.lines.map((line) => /:(\d+)\/#/.exec(line)?.[1]).find(Boolean);
    const second = await start();
    assert.ok(!second.lines.some((line) => line.includes(`:${port}/#`)));
    await assert.rejects(start({ PORT: port }), /ended \(2\): .*port \d+ can't be used: .*--port/);
    for (const run of [first, second]) await ctrlC(run);
});
