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
	echo "CHANGELOG.md has no section \"## $version\": scripts/start-release.sh $version makes it of Unreleased" >&2
	exit 1
fi
printf '%s\n' "$notes"
