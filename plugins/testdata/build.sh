#!/bin/sh
# Rebuilds the fixtures. Needs Debian's clang-16, lld-16 and wabt: apt-get install clang-16 lld-16 wabt
set -eu
cd "$(dirname "$0")"
for c in src/*.c; do
	name=$(basename "$c" .c)
	clang-16 --target=wasm32 -O2 -nostdlib -mbulk-memory -Wall -Wextra -c "$c" -o "$name.o"
	wasm-ld-16 --no-entry -z stack-size=16384 --strip-all -o "$name.wasm" "$name.o"
	rm "$name.o"
done
for w in *.wat abi/*.wat hostile/*.wat ../internal/hostile/testdata/*.wat ../internal/metering/testdata/*.wat; do
	wat2wasm "$w" -o "${w%.wat}.wasm"
done
