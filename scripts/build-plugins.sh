#!/bin/sh
# Builds the plugins in C, Rust and AssemblyScript that are committed as .wasm: those of examples, tests and benchmarks.
# The tests build the plugins in Go. The script also renews the copy of the Go SDK for new projects.
# Usage: build-plugins.sh [<folder>], which replaces the folders of the sources as the destination.
# Needs the packages of scripts/install-test-deps.sh, or rustup's wasm32-unknown-unknown.
set -eu
cd "$(dirname "$0")/.."
into=${1:-}
mkdir -p "${into:-.}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

place() { # source file, name of its own, name beside its source
	if [ -n "$into" ]; then
		echo "$into/$2.wasm"
	else
		echo "$(dirname "$1")/$3.wasm"
	fi
}
first() { # the first of the commands that exists
	for c; do
		if command -v "$c" >/dev/null; then
			echo "$c"
			return
		fi
	done
	echo "none of $* found; run scripts/install-test-deps.sh" >&2
	exit 1
}

build_c() {
	"$clang" --target=wasm32 -O2 -nostdlib -mbulk-memory -Wall -Wextra -Werror -c "$1" -o "$work/$2.o"
	"$ld" --no-entry -z stack-size=65536 --strip-all -o "$3" "$work/$2.o"
}
rust() {
	"$rustc" --edition 2021 --target wasm32-unknown-unknown --remap-path-prefix "$PWD=." -D warnings -C opt-level=3 -C panic=abort -C target-feature=+bulk-memory "$@"
}
build_rust() {
	rust --crate-type cdylib --crate-name plugin -C lto -C strip=symbols -C linker="$ld" -C linker-flavor=wasm-ld \
		--extern edgerelay="$work/libedgerelay.rlib" -o "$3" "$1"
}
build_as() {
	"$asc" "$1" -O3 --runtime incremental --noAssert --use abort= -o "$3"
}

clang=$(first clang-16 clang)
ld=$(first wasm-ld-16 wasm-ld)
rustc=""
for c in "${RUSTC:-rustc}" /usr/bin/rustc; do # rustup's may come first and lack WebAssembly
	if [ -d "$("$c" --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" ]; then
		rustc=$c
		break
	fi
done
if [ -z "$rustc" ]; then
	echo "no rustc for wasm32-unknown-unknown; run scripts/install-test-deps.sh" >&2
	exit 1
fi
asc=sdk/assemblyscript/node_modules/.bin/asc
if [ ! -x "$asc" ]; then
	(cd sdk/assemblyscript && npm ci --silent --no-audit --no-fund)
fi

# Builds the plugins of a language, by the extension of their sources.
build_all() { # extension, function
	for f in examples/plugins/*/plugin."$1" examples/functions/*/function."$1" internal/guests/testdata/*."$1"; do
		[ -e "$f" ] || continue
		case $f in
		examples/*) name=$(basename "$(dirname "$f")") file=$(basename "$f" ".$1") ;;
		*) name=$(basename "$f" | tr . -) file=$name ;;
		esac
		to=$(place "$f" "$name" "$file")
		"$2" "$f" "$name" "$to"
		chmod 644 "$to"
	done
}

# Rust takes about as long as the other two.
{
	build_all c build_c
	build_all ts build_as
} &
others=$!
rust --crate-type rlib --crate-name edgerelay -o "$work/libedgerelay.rlib" sdk/rust/src/lib.rs
build_all rs build_rust
wait "$others"

if [ -z "$into" ]; then
	scripts/copy-go-sdk.sh
fi
