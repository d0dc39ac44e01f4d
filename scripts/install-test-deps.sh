#!/bin/sh
# Installs the programs that the tests need besides Go, from Debian's packages: the real peers (Redis, Django Channels,
# Daphne), a browser and compilers. Does nothing if all are present.
set -eu

missing=""
need() { # package, test
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
have() { command -v "$1"; }
# Debian's Python, whatever comes first in PATH: the packages belong to Debian's.
imports() { /usr/bin/python3 -c "import $1"; }

need curl have curl # commands of the documentation
need redis-server have redis-server
need daphne have daphne
need python3-channels-redis imports channels_redis.core
need faketime have faketime # emitters with other clocks
need python3-django imports django
need python3-aiohttp imports aiohttp
need python3-websockets imports websockets # decodes compressed messages, as do firefox-esr and chromium
need python3-jwt imports jwt # examples/django/tokens
need chromium sh -c 'command -v chromium || command -v chromium-browser || command -v google-chrome'
need firefox-esr have firefox-esr
need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
# The site of the migration's rehearsal. uwsgi-core is the program without a service.
need nginx-light have nginx
need uwsgi-core have uwsgi
need uwsgi-plugin-python3 test -e /usr/lib/uwsgi/plugins/python3_plugin.so
# Namespaces of the mesh test.
need iproute2 have ip
need iputils-ping have ping
need openssl have openssl # keys and signatures of modules
need docker-registry have docker-registry # modules travel by registries
need gcc have gcc # the race detector needs cgo
need libc6-dev test -e /usr/include/stdlib.h
# Compilers of plugins: C, Rust, AssemblyScript (npm fetches its compiler).
need clang-16 sh -c 'command -v clang-16 || command -v clang'
need lld-16 sh -c 'command -v wasm-ld-16 || command -v wasm-ld'
wasm_rust() { test -d "$("$1" --print target-libdir --target wasm32-unknown-unknown)"; }
if ! wasm_rust rustc 2>/dev/null; then # rustup's may be present and lack WebAssembly
	need rustc have /usr/bin/rustc
	need libstd-rust-dev-wasm32 wasm_rust /usr/bin/rustc
fi
need cargo have cargo # the Rust SDK's own tests
need npm have npm
need prometheus have promtool # the alerts and the dashboard's queries

if [ -z "$missing" ]; then
	exit 0
fi
by_hand="apt-get update && apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null; then
	echo "The tests need what Debian calls$missing; this system has no apt-get; install them with its package manager." >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "The tests need$missing. As root: $by_hand" >&2
	exit 1
fi
echo "installing$missing"

# redis-server's package would start a service on the usual port; the tests start their own. Exit code 101 of
# policy-rc.d forbids the start.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 # a list of packages
if ! { apt-get -o DPkg::Lock::Timeout=300 update &&
	apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
	tail -n 30 "$log" >&2
	rm -f "$log"
	echo "Could not install$missing. By hand: $by_hand" >&2
	exit 1
fi
rm -f "$log"
