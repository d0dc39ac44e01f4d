#!/bin/sh
# Builds plugin.wasm. Needs Node.js with npm, which fetches the AssemblyScript compiler once.
set -eu
cd "$(dirname "$0")"
[ -x node_modules/.bin/asc ] || npm install --no-audit --no-fund
node_modules/.bin/asc plugin.ts -O3 --runtime incremental --noAssert --use abort= -o plugin.wasm
