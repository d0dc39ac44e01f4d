#!/bin/sh
# Runs every fuzz target of the module for a short while: scripts/fuzz.sh [time, default 10s].
set -eu
time=${1:-10s}
found=0
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do
	for target in $(grep -h '^func Fuzz' "$dir"/*_test.go | sed 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/'); do
		found=$((found + 1))
		echo "$dir $target"
		(cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .) </dev/null
	done
done
echo "$found fuzz targets, $time each"
[ "$found" -gt 0 ]
