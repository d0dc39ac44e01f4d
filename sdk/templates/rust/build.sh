#!/bin/sh
# Builds plugin.wasm. Needs Rust 1.63 or newer for wasm32-unknown-unknown: rustup target add wasm32-unknown-unknown,
# or on Debian apt-get install rustc libstd-rust-dev-wasm32 lld. The script does not need cargo, which Cargo.toml is for.
set -eu
cd "$(dirname "$0")"
for rustc in "${RUSTC:-rustc}" /usr/bin/rustc; do # a rustc with WebAssembly
	if [ -d "$("$rustc" --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" ]; then break; fi
done
set -- --edition 2021 --target wasm32-unknown-unknown --remap-path-prefix "$PWD=." -C opt-level=3 -C panic=abort
"$rustc" "$@" --crate-type rlib --crate-name edgerelay -o libedgerelay.rlib edgerelay/src/lib.rs
for ld in wasm-ld wasm-ld-16; do # Debian's; rustup's Rust has its own
	if command -v "$ld" >/dev/null; then set -- "$@" -C linker="$ld" -C linker-flavor=wasm-ld && break; fi
done
"$rustc" "$@" --crate-type cdylib --crate-name plugin -C lto -C strip=symbols \
	--extern edgerelay=libedgerelay.rlib -o plugin.wasm src/lib.rs
rm libedgerelay.rlib
