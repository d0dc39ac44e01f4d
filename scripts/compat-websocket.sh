#!/bin/sh
# Tests package ws with clients from PyPI: scripts/compat-websocket.sh.
#   - The newest websockets and aiohttp decode shared compressed messages. pip installs both into bin/compat/clients.
#   - The Autobahn test suite runs against an echo server: all cases but those of throughput and of large compressed
#     messages, of which there are a thousand in each case. AUTOBAHN_CASES="*" runs them too (an hour). The suite needs
#     Python 2.7, from PATH or from pyenv; without one, it is reported as missing. pip installs it into
#     bin/compat/autobahn.
set -eu
root=$(pwd)/bin/compat
mkdir -p "$root"

# clients: a virtual environment of the newest Python.
clients=$root/clients
if [ ! -e "$clients/complete" ]; then
	rm -rf "$clients"
	newest=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python3 2>/dev/null | sort -V | tail -n 1)
	"${newest:-python3}" -m venv "$clients"
	"$clients/bin/pip" install --quiet --disable-pip-version-check websockets aiohttp >"$clients/log" 2>&1 ||
		{ cat "$clients/log" >&2; exit 1; }
	touch "$clients/complete"
fi
"$clients/bin/pip" list --disable-pip-version-check 2>/dev/null | grep -E '^(websockets|aiohttp) '
EDGERELAY_CLIENT_PYTHON=$clients/bin/python ${GO:-go} test -count 1 -timeout 10m -run TestPythonDecompresses -v \
	./internal/conformance

# autobahn: the last release of the suite for Python 2.7.
python2=$(ls "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python2.7 2>/dev/null | tail -n 1)
python2=${python2:-$(command -v python2.7 || true)}
if [ -z "$python2" ]; then
	echo "The Autobahn test suite needs Python 2.7, which is not installed here"
	exit 0
fi
suite=$root/autobahn
if [ ! -e "$suite/complete" ]; then
	rm -rf "$suite"
	mkdir -p "$suite"
	"$python2" -m pip install --quiet --disable-pip-version-check --target "$suite" autobahntestsuite==0.8.2 \
		>"$suite.log" 2>&1 || { cat "$suite.log" >&2; exit 1; }
	cat >"$suite/run" <<END
#!/bin/sh
exec "$python2" -W ignore -c 'import site; site.addsitedir("$suite"); from autobahntestsuite.wstest import run; run()' "\$@"
END
	chmod +x "$suite/run"
	touch "$suite/complete"
fi
cases="1.* 2.* 3.* 4.* 5.* 6.* 7.* 10.*"
for part in 12.1 12.2 12.3 12.4 12.5 13.1 13.2 13.3 13.4 13.5 13.6 13.7; do
	cases="$cases $part.1 $part.2 $part.3 $part.4 $part.5"
done
EDGERELAY_AUTOBAHN=$suite/run EDGERELAY_AUTOBAHN_CASES=${AUTOBAHN_CASES:-$cases} ${GO:-go} test -count 1 -timeout 180m \
	-run TestAutobahn -v ./internal/conformance
