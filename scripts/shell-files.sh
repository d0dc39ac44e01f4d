#!/bin/sh
# Makes the shell completions and man pages of the packages: scripts/shell-files.sh <folder> [<binary>]
# Without a binary it compiles one with the flags of releases. The same commit gives the same files.
set -eu

cd "$(dirname "$0")/.."
folder=$1 binary=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Under this name, the binary has the relay's commands as its own.
if [ -n "$binary" ]; then
	ln -s "$(realpath "$binary")" "$work/edgerelay"
else
	CGO_ENABLED=0 GOWORK=off go build -trimpath -tags=nobadger,nomysql,nopgx -ldflags="-s -w" -pgo=deploy/default.pgo \
		-o "$work/edgerelay" ./caddymodule/cmd/caddy
fi

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) # man pages name the month
export SOURCE_DATE_EPOCH HOME="$work" XDG_DATA_HOME="$work" XDG_CONFIG_HOME="$work"
rm -rf "$folder"
mkdir -p "$folder/man"
for shell in bash zsh fish; do
	"$work/edgerelay" completion "$shell" >"$folder/edgerelay.$shell"
done
"$work/edgerelay" manpage --directory "$folder/man"
# Caddy gives all pages its own name as the title.
for page in "$folder"/man/*.8; do
	title=$(basename "$page" .8 | tr '[:lower:]' '[:upper:]')
	sed -i "s/^\.TH \"Caddy\"/.TH \"$title\"/" "$page"
done
