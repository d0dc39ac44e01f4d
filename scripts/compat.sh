#!/bin/sh
# Tests the premise of the history with several versions of channels_redis: scripts/compat.sh [versions]. Each is
# installed into a virtual environment of its own, bin/compat/<version>, by pip, with Debian's Python.
set -eu
versions=${*:-3.4.1 4.0.0 4.2.1 4.3.0}
pythons=""
for version in $versions; do
	venv=$(pwd)/bin/compat/$version
	if [ ! -e "$venv/complete" ]; then
		rm -rf "$venv"
		if ! /usr/bin/python3 -m venv "$venv" 2>/dev/null; then # without Debian's python3-venv
			/usr/bin/python3 -m venv --without-pip "$venv"
		fi
		if [ -e "$venv/bin/pip" ]; then pip="$venv/bin/pip"; else pip="pip --python $venv/bin/python"; fi
		echo "installing channels_redis $version"
		# Version 3 uses aioredis; the test's Python program needs redis in any case.
		$pip install --quiet --disable-pip-version-check "channels_redis==$version" redis cryptography
		touch "$venv/complete"
	fi
	pythons="$pythons:$venv/bin/python"
done
EDGERELAY_PYTHONS=${pythons#:} ${GO:-go} test -count 1 -timeout 10m -run OneScoreForAllReceivers -v ./relay/history/sortedset
