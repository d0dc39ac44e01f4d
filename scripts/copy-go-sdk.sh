#!/bin/sh
# Renews sdk/templates/go/edgerelay, the copy of the Go SDK for new projects. The SDK is a module of its own, whose files
# the relay cannot embed.
set -eu
cd "$(dirname "$0")/.."
rm -rf sdk/templates/go/edgerelay
mkdir -p sdk/templates/go/edgerelay
for f in sdk/go/*.go sdk/go/go.mod sdk/go/README.md; do
	case $f in
	*_test.go) ;;
	*) cp "$f" "sdk/templates/go/edgerelay/$(basename "$f").tmpl" ;;
	esac
done
