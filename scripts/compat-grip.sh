#!/bin/sh
# Tests the relay with django-grip, gripcontrol, pubcontrol and django-eventstream from PyPI, unchanged, under uWSGI:
# scripts/compat-grip.sh.
# The packages are installed by pip into bin/compat/grip. EDGERELAY_CADDY names the
# Caddy to test. With EDGERELAY_RECORD=1, the exchanges replace internal/e2e/testdata/grip/recorded*.json, which the
# tests use without the packages.
set -eu
packages=$(pwd)/bin/compat/grip
mkdir -p "$packages"
if [ ! -e "$packages/complete2" ]; then
	# The packages are pure Python, so any pip serves the Python of uWSGI.
	python3 -m pip install --quiet --disable-pip-version-check --target "$packages" \
		django django-grip gripcontrol pubcontrol django-eventstream >"$packages.log" 2>&1 || { cat "$packages.log" >&2; exit 1; }
	touch "$packages/complete2"
fi
EDGERELAY_GRIP=$packages ${GO:-go} test -count 1 -timeout 5m -run 'TestGripLibraries|TestEventStreamLibrary' -v ./internal/e2e
