#!/bin/sh
# Installs into a scratch folder, builds the README's example against nothing but that, as its reader would, and sees
# it knock at a PeerServer's door; the installed command has the page, if npm's modules were there to build it. B: the build
# folder.
set -eu
cd "$(dirname "$0")/.."
B=${B:-build}
page=$([ ! -d apps/web/node_modules/esbuild ] || echo yes)
dir=$(mktemp -d "$B/install.XXXXXX")
dir=$(cd "$dir" && pwd)
trap 'rm -rf "$dir"' EXIT

make -s B="$B" PREFIX="$dir" install
awk '/^```c$/ { on = 1; next } /^```$/ && on { exit } on' README.md >"$dir/echo.c"
cd "$dir"
PKG_CONFIG_PATH=$dir/lib/pkgconfig
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
"${CC:-cc}" -Wall -Werror -o echo echo.c $(pkg-config --cflags --libs datapeer)
bin/datapeer --help >/dev/null
test -s share/man/man1/datapeer.1

node - "$dir/echo" <<'EOF'
const server = require("net").createServer((socket) => {
    socket.once("data", (data) => end(/^GET \/peerjs\?key=peerjs&id=echo-1&token=\w+&version=/.test(data), String(data)));
});
let example;
function end(good, why) {
    example?.kill();
    if (!good) console.error("the README's example:", why);
    process.exit(good ? 0 : 1);
}
server.listen(0, "127.0.0.1", () => {
    example = require("child_process").spawn(process.argv[2], [`ws://127.0.0.1:${server.address().port}/`], { stdio: "inherit" });
    example.on("exit", (code) => end(false, `exit ${code}`));
    setTimeout(() => end(false, "no request within 10 s"), 10000);
});
EOF
if [ -n "$page" ]; then
    node - "$dir" <<'EOF'
const [folder] = process.argv.slice(2);
const { PEER_SERVER_URL, ...env } = process.env;
const args = ["serve", folder, "--host", "127.0.0.1", "--port", "0", "--ephemeral"];
const device = require("child_process").spawn(`${folder}/bin/datapeer`, args, { env, stdio: ["ignore", "pipe", "inherit"] });
let text = "";
device.stdout.on("data", async (data) => {
    const address = /^open (\S+)\n/m.exec((text += data))?.[1];
    if (!address) return;
    const answers = await Promise.all(["", "app.js"].map((name) => fetch(new URL(name, address))));
    end(answers.every(({ ok }) => ok), answers.map(({ status }) => status));
});
device.on("exit", (code) => end(false, `exit ${code}`));
setTimeout(() => end(false, "no page within 10 s"), 10000);
function end(good, why) {
    device.kill();
    if (!good) console.error("the installed command's page:", why);
    process.exit(good ? 0 : 1);
}
EOF
fi
# A program that links the library may use any name that does not begin with dp_.
foreign=$(nm -g --defined-only "$dir/lib/libdatapeer.a" | awk '$2 ~ /[TDBRC]/ && $3 !~ /^dp_/ {print $3}')
[ -z "$foreign" ] || { echo "install: global symbols without dp_: $foreign" >&2; exit 1; }
echo "install: the README's example builds and runs"
