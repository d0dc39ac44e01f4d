#!/bin/sh
# Forgets the unit. `apt purge` also removes certificates, plugins and secrets. The user stays, as Debian recommends: files
# of it may remain, and its number must not pass to another user.
# Argument: "remove", "purge" or "upgrade" (deb), or the number of versions that remain (rpm).
set -eu

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "${1:-}" = purge ]; then
	rm -rf /var/lib/edgerelay
	rm -f /etc/edgerelay/environment
	rmdir --ignore-fail-on-non-empty /etc/edgerelay 2>/dev/null || true
fi
