#!/bin/sh
# Builds the example functions in Go: all, or those that are named. The modules of the others are committed.
# Usage: sh build.sh [<example>...]
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- chat poll progress
for name; do
	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o "$name/function.wasm" "./$name"
done
