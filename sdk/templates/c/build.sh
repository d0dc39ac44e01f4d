#!/bin/sh
# Builds plugin.wasm. Needs clang and lld 14 or newer: on Debian apt-get install clang-16 lld-16.
set -eu
cd "$(dirname "$0")"
for clang in clang clang-16; do if command -v "$clang" >/dev/null; then break; fi; done
for ld in wasm-ld wasm-ld-16; do if command -v "$ld" >/dev/null; then break; fi; done
"$clang" --target=wasm32 -O2 -nostdlib -mbulk-memory -Wall -Wextra -c plugin.c -o plugin.o
"$ld" --no-entry -z stack-size=65536 --strip-all -o plugin.wasm plugin.o
rm plugin.o
