#!/bin/sh
# Creates the service's user before files are unpacked. Runs for deb and rpm, at each installation and upgrade.
set -eu

nologin=/usr/sbin/nologin
[ -x "$nologin" ] || nologin=/sbin/nologin
if ! getent group edgerelay >/dev/null; then
	groupadd --system edgerelay
fi
if ! getent passwd edgerelay >/dev/null; then
	useradd --system --gid edgerelay --home-dir /var/lib/edgerelay --no-create-home --shell "$nologin" \
		--comment "edgerelay" edgerelay
fi
