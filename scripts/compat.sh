#!/bin/sh
# Tests the relay with versions of Python, Django, Channels and channels_redis: scripts/compat.sh [Django versions].
# Every combination is installed by pip from PyPI into a virtual environment of its own, bin/compat/<combination>, unless
# pip says that the packages exclude each other. Then
#   - the premise of the history is tested with every channels_redis, and
#   - sites under that Daphne live beside the relay on one Redis: see internal/django/compat_test.go. The table that it
#     prints belongs into docs/django.md.
# EDGERELAY_CADDY names the Caddy to test. A Python that is not installed is reported, and its row is missing.
set -eu
redis_versions="3.4.1 4.0.0 4.2.1 newest"
channels_versions="3 4"

# python_for <Django> <Channels>: a Python that both support.
python_for() {
	case $1-$2 in
	3.2-*) echo 3.10 ;;
	4.2-*) echo 3.11 ;;
	*-3) echo 3.12 ;; # Channels 3 imports cgi, which 3.13 lacks
	*) echo 3.13 ;;
	esac
}

# find_python <version>: a program of this version, from PATH or from pyenv.
find_python() {
	for program in "/usr/bin/python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python3; do
		if [ -x "$program" ]; then
			echo "$program"
			return
		fi
	done
	command -v "python$1" || true
}

# install <folder> <python> <packages>: false if the packages exclude each other; the reason is in <folder>/reason.
install() {
	venv=$1 interpreter=$2
	shift 2
	if [ -e "$venv/complete" ]; then return 0; fi
	if [ -e "$venv/reason" ]; then return 1; fi
	rm -rf "$venv"
	if ! "$interpreter" -m venv "$venv" 2>/dev/null; then # without Debian's python3-venv
		"$interpreter" -m venv --without-pip "$venv"
	fi
	if [ -e "$venv/bin/pip" ]; then pip="$venv/bin/pip"; else pip="pip --python $venv/bin/python"; fi
	if $pip install --quiet --disable-pip-version-check "$@" >"$venv/log" 2>&1; then
		touch "$venv/complete"
	elif grep -q ResolutionImpossible "$venv/log"; then
		sed -n 's/.*\(Cannot install .*\)/\1/p' "$venv/log" | head -n 1 >"$venv/reason"
		return 1
	else
		cat "$venv/log" >&2
		exit 1
	fi
}

root=$(pwd)/bin/compat
mkdir -p "$root"
combinations="" pythons="" have=""
for django in ${*:-3.2 4.2 5.2 newest}; do
	for channels in $channels_versions; do
		version=$(python_for "$django" "$channels")
		interpreter=$(find_python "$version")
		if [ -z "$interpreter" ]; then
			echo "Django $django with Channels $channels: there is no Python $version here"
			continue
		fi
		for layer in $redis_versions; do
			name=django-$django-channels-$channels-redis-$layer
			case $django in newest) django_package=django ;; *) django_package="django~=$django.0" ;; esac
			case $layer in newest) layer_package=channels_redis ;; *) layer_package="channels_redis==$layer" ;; esac
			# daphne has Channels' major version; version 3 of channels_redis uses aioredis, the test's program redis.
			if install "$root/$name" "$interpreter" "$django_package" "channels~=$channels.0" "daphne~=$channels.0" \
				"$layer_package" redis cryptography; then
				combinations="$combinations $root/$name/bin/python"
				installed=$("$root/$name/bin/python" -c \
					'from importlib.metadata import version; print(version("channels_redis"))')
				case $have in *" $installed "*) ;; *)
					have="$have $installed "
					pythons="$pythons:$root/$name/bin/python"
					;;
				esac
			else
				echo "$name cannot be installed: $(cat "$root/$name/reason")"
			fi
		done
	done
done
EDGERELAY_PYTHONS=${pythons#:} ${GO:-go} test -count 1 -timeout 10m -run OneScoreForAllReceivers -v ./relay/history/sortedset
EDGERELAY_COMPAT=$combinations ${GO:-go} test -count 1 -timeout 60m -run TestCompat -v ./internal/django
