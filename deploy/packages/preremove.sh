#!/bin/sh
# Stops and disables the service before its files go; not at an upgrade.
# Argument: "remove" or "upgrade" (deb), or the number of versions that remain (rpm).
set -eu

case "${1:-}" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --quiet disable --now edgerelay.service
	fi
	;;
esac
