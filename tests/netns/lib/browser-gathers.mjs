// What a browser's ICE gathers here: `browser-gathers.mjs chromium|firefox STUN-URL` prints its candidates as a JSON list, up to the
// first server-reflexive one. A program of its own, for Firefox is driven by way of a socket, and so from within its namespace.
import { gather } from '../../interop/lib/gather.mjs';
import { World } from '../../interop/lib/world.mjs';

const [name, url] = process.argv.slice(2);
const world = new World();
try {
    const { browser } = await world.browser(name);
    const page = await browser.newPage();
    console.log(JSON.stringify(await page.evaluate(gather, url)));
} finally {
    await world.close();
}
