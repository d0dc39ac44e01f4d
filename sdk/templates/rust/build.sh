#!/bin/sh
# Builds plugin.wasm. Needs Rust 1.63 or newer for wasm32-unknown-unknown: rustup target add wasm32-unknown-unknown,
# or on Debian apt-get install rustc libstd-rust-dev-wasm32 lld. With the copy of the SDK in edgerelay/, the script does
# not need cargo. Without the copy, cargo fetches the crate.
set -eu
cd "$(dirname "$0")"
target=wasm32-unknown-unknown
for rustc in "${RUSTC:-rustc}" /usr/bin/rustc; do # a rustc with WebAssembly
	if [ -d "$("$rustc" --print target-libdir --target $target 2>/dev/null)" ]; then break; fi
done
set -- -C target-feature=+bulk-memory
for ld in wasm-ld wasm-ld-16; do # Debian's; rustup's Rust has its own
	if command -v "$ld" >/dev/null; then set -- "$@" -C linker="$ld" -C linker-flavor=wasm-ld && break; fi
done
if [ ! -d edgerelay ]; then
	RUSTC=$rustc RUSTFLAGS="--remap-path-prefix $PWD=. $*" cargo build --quiet --release --target $target
	cp "${CARGO_TARGET_DIR:-target}/$target/release/plugin.wasm" plugin.wasm
	exit
fi
set -- --edition 2021 --target $target --remap-path-prefix "$PWD=." -C opt-level=3 -C panic=abort "$@"
"$rustc" "$@" --crate-type rlib --crate-name edgerelay -o libedgerelay.rlib edgerelay/src/lib.rs
"$rustc" "$@" --crate-type cdylib --crate-name plugin -C lto -C strip=symbols \
	--extern edgerelay=libedgerelay.rlib -o plugin.wasm src/lib.rs
rm libedgerelay.rlib
