// Bundles the page into build/web/: index.html, style.css, icon.svg, app.js. Does nothing if that is newer than all it is made of.
import { cp, mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, '../../build/web');
const source = join(here, 'src');
const files = (await readdir(source)).map((name) => join(source, name));
const inputs = [...files, fileURLToPath(import.meta.url), join(here, 'package-lock.json')];

if (!(await isFresh())) {
    const { build } = await import('esbuild');
    await mkdir(out, { recursive: true });
    for (const name of ['index.html', 'style.css', 'icon.svg']) await cp(join(source, name), join(out, name));
    await build({
        entryPoints: [join(source, 'main.js')],
        outfile: join(out, 'app.js'), // last, so that it dates the whole
        bundle: true,
        minify: true,
        format: 'iife',
        target: 'es2022',
        legalComments: 'eof',
        logLevel: 'warning',
    });
}

async function isFresh() {
    const time = async (path) => (await stat(path)).mtimeMs;
    try {
        const made = await time(join(out, 'app.js'));
        return (await Promise.all(inputs.map(time))).every((changed) => changed < made);
    } catch {
        return false;
    }
}
