#!/bin/sh
# Runs every fuzz target for a while: scripts/fuzz.sh [time, default 10s] [packages, default all], such as
# scripts/fuzz.sh 2m ./relay/transport/ws. go test keeps failing inputs in testdata/fuzz. With KEEP=n the script adds the
# n smallest inputs that reached new code, for every later `go test`.
set -eu
time=${1:-10s}
keep=${KEEP:-0}
[ $# -gt 0 ] && shift
go=${GO:-go}
cache=$($go env GOCACHE)/fuzz
# The Makefile's flags for code that imports Caddy, so that one compilation serves all.
flags="$($go env GOFLAGS) -trimpath -tags=nobadger,nomysql,nopgx"
found=0
for file in $(grep -rl --include='*_test.go' '^func Fuzz' "${@:-.}" | sort); do
	dir=$(dirname "$file")
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file"); do
		found=$((found + 1))
		echo "$dir $target"
		(cd "$dir" && CGO_ENABLED=0 GOFLAGS="$flags" $go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" .) </dev/null
		[ "$keep" -gt 0 ] || continue
		new=$cache/$(cd "$dir" && $go list .)/$target
		[ -d "$new" ] || continue
		mkdir -p "$dir/testdata/fuzz/$target"
		ls -Sr "$new" | head -n "$keep" | while read -r input; do
			cp "$new/$input" "$dir/testdata/fuzz/$target/"
		done
	done
done
echo "$found fuzz targets, $time each"
[ "$found" -gt 0 ]
