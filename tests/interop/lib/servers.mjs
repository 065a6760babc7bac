// Both PeerServers, with the same options: {port, path, key, allow_discovery, concurrent_limit, alive_timeout, expire_timeout}, as npm's
// names them. Each returns {port, url, program}.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, parse } from './world.mjs';

const here = dirname(fileURLToPath(import.meta.url));

export const SERVERS = {
    async npm(world, options = {}) {
        const args = [join(here, '../drivers/npm_peerserver.mjs'), JSON.stringify(options)];
        const program = await world.program(process.execPath, args, { ready: (line) => parse(line)?.port > 0 });
        return found(program, parse(program.lines.at(-1)).port);
    },

    async datapeer(world, options = {}, more = []) {
        const args = ['signal', '--host', '127.0.0.1', '--port', '0', '--connection-rate', '0', '--message-rate', '0', ...more];
        for (const [name, value] of Object.entries(options)) {
            const option = `--${name.replaceAll('_', '-')}`;
            args.push(...(value === true ? [option] : [option, String(value)]));
        }
        const program = await world.program(join(build, 'datapeer'), args, { ready: (line) => line.startsWith('listening on ') });
        return found(program, Number(/^listening on .*:(\d+)/m.exec(program.lines.join('\n'))[1]));
    },
};

function found(program, port) {
    return { port, url: `ws://127.0.0.1:${port}`, program };
}
