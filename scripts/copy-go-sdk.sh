#!/bin/sh
# Renews sdk/templates/go/edgerelay, the copy of the Go SDK for new projects. The SDK is a module of its own, whose files
# the relay cannot embed.
set -eu
cd "$(dirname "$0")/../sdk"
rm -rf templates/go/edgerelay
for f in go/*.go go/go.mod go/README.md go/manifest/*.go go/function/*.go; do
	case $f in
	*_test.go) continue ;;
	esac
	to=templates/go/edgerelay/${f#go/}.tmpl
	mkdir -p "$(dirname "$to")"
	cp "$f" "$to"
done
