#!/bin/sh
# Runs the micro-benchmarks of the hot paths. With a commit: runs that commit and this tree in turn, and compares.
#   scripts/bench-micro.sh [<commit>]      BENCH=<regexp> COUNT=6 BENCHTIME=0.3s PACKAGES="./relay ./relay/transport/ws"
set -eu
cd "$(dirname "$0")/.."
packages=${PACKAGES:-./relay ./relay/transport/ws ./relay/layer/redis ./relay/internal/asgi ./relay/protocol/awx ./relay/backplane ./plugins ./internal/lanes ./internal/guests}
export GOTOOLCHAIN=local
# shellcheck disable=SC2086
run() { go test -run '^$' -bench "${BENCH:-.}" -benchmem -benchtime "${BENCHTIME:-0.3s}" $packages; }

if [ $# -eq 0 ]; then
	run
	exit
fi

work=$(mktemp -d)
trap 'git worktree remove --force "$work/base" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
git worktree add --detach --quiet "$work/base" "$1"
# In turn, so that other load on the machine affects both sides. Packages without benchmarks there are skipped.
for i in $(seq "${COUNT:-6}"); do
	echo "round $i of ${COUNT:-6}" >&2
	(cd "$work/base" && run) >>"$work/base.txt" 2>/dev/null || true
	run >>"$work/now.txt"
done
go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da "base=$work/base.txt" "now=$work/now.txt"
