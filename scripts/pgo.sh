#!/bin/sh
# Writes deploy/default.pgo, the compiler's profile of the relay under the benchmark's load.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go -C bench run . -systems edgerelay,edgerelay-redis -idle 10000 -reps 1 -profiles "$dir" -out "$dir/results" short
find "$dir" -name '*.pprof' ! -name '*heap*' -exec go tool pprof -proto {} + >"$dir/merged"
mv "$dir/merged" deploy/default.pgo
