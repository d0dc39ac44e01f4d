#!/bin/sh
# Lays out the image's file system: deploy/container/rootfs.sh <binary> <folder>
# The Dockerfile and the test of the image run it. It needs Go, and the certificates of the package ca-certificates.
set -eu

binary=$1 root=$2 here=$(dirname "$0")
case $root in
/*) ;;
*) root=$PWD/$root ;;
esac

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/edgerelay" "$root/tmp" "$root/data" "$root/run/edgerelay"
install -m 0755 "$binary" "$root/usr/bin/caddy"
ln -sf caddy "$root/usr/bin/edgerelay" # under this name, the binary has the relay's commands as its own
install -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
install -m 0644 "$here/Caddyfile" "$root/etc/edgerelay/"
(cd "$here/../.." && go run ./internal/build/licenses "$root/usr/share/doc/edgerelay")
chmod 1777 "$root/tmp"
chmod 0700 "$root/run/edgerelay"
chown -R 65532:65532 "$root/data" "$root/run/edgerelay"
