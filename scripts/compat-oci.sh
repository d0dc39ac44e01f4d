#!/bin/sh
# Runs the tests of registries beside oras and crane, which Go builds. cosign takes part if it is in bin/oci; Go builds it in
# about 20 minutes: EDGERELAY_COSIGN=build scripts/compat-oci.sh
set -eu
cd "$(dirname "$0")/.."
tools=$PWD/bin/oci
mkdir -p "$tools"
[ -x "$tools/oras" ] || GOBIN=$tools GOFLAGS= go install oras.land/oras/cmd/oras@v1.3.0
[ -x "$tools/crane" ] || GOBIN=$tools GOFLAGS= go install github.com/google/go-containerregistry/cmd/crane@v0.20.6
if [ "${EDGERELAY_COSIGN:-}" = build ] && [ ! -x "$tools/cosign" ]; then
	GOBIN=$tools GOFLAGS= CGO_ENABLED=0 go install github.com/sigstore/cosign/v2/cmd/cosign@v2.6.5
fi
export EDGERELAY_OCI_TOOLS=$tools CGO_ENABLED=0 GOFLAGS="-trimpath -tags=nobadger,nomysql,nopgx"
exec go test ./caddymodule/oci -count 1 -v -run 'Oras|Crane|Cosign|RealRegistry'
