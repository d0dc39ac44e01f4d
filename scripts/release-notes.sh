#!/bin/sh
# Prints the section of CHANGELOG.md for a version: scripts/release-notes.sh v1.2.3
# Fails without such a section: a release needs notes.
set -eu
version=${1#v}
cd "$(dirname "$0")/.."
notes=$(awk -v version="$version" '
	/^## / { inside = ($2 == version || $2 == "[" version "]"); next }
	inside { print }
' CHANGELOG.md)
if [ -z "$(printf %s "$notes" | tr -d '[:space:]')" ]; then
	echo "CHANGELOG.md has no section \"## $version\": move what is under Unreleased into one" >&2
	exit 1
fi
printf '%s\n' "$notes"
