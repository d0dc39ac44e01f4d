#!/bin/sh
# Builds plugin.wasm. Needs Node.js 18 or newer with npm, which fetches the AssemblyScript compiler once.
set -eu
cd "$(dirname "$0")"
[ -x node_modules/.bin/asc ] || npm install --no-audit --no-fund
npm run --silent build
