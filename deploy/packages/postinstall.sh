#!/bin/sh
# Makes the unit known. The package never starts, stops or restarts the service by itself: the ports may still belong to
# nginx, and a restart ends every WebSocket. `systemctl reload` is enough for a configuration.
# Arguments: "configure" and the former version (deb), or the number of installed versions (rpm).
set -eu

if [ ! -d /run/systemd/system ]; then
	exit 0
fi
systemctl daemon-reload
if systemctl --quiet is-active edgerelay.service; then
	echo "edgerelay: the service still runs the former version; restart it at a quiet hour:"
	echo "  edgerelay drain -y --duration 60s --wait && systemctl restart edgerelay"
fi
