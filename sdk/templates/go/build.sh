#!/bin/sh
# Builds plugin.wasm with the manifest in it. Needs Go 1.24 or newer.
set -eu
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o plugin.wasm .
go tool manifest plugin.wasm manifest.json
