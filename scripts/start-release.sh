#!/bin/sh
# Writes a version into the files of a release: scripts/start-release.sh 1.2.3
# The entries under Unreleased in CHANGELOG.md become the section of the version, below an empty Unreleased. The chart and
# the overlays of AWX's operator get the version. Review, commit and tag the result: CONTRIBUTING.md.
set -eu
version=${1#v}
case $version in
*[!0-9A-Za-z.-]* | [!0-9]* | "")
	echo "$version is no version; use one such as 1.2.3" >&2
	exit 1
	;;
esac
cd "$(dirname "$0")/.."
if grep -q "^## \[\?$version\]\?\( \|\$\)" CHANGELOG.md; then
	echo "CHANGELOG.md has a section $version already" >&2
	exit 1
fi
if ! grep -q '^## Unreleased$' CHANGELOG.md; then
	echo "CHANGELOG.md has no section Unreleased" >&2
	exit 1
fi
sed -i "s/^## Unreleased\$/## Unreleased\n\n## $version/" CHANGELOG.md
if ! scripts/release-notes.sh "$version" >/dev/null; then
	sed -i "/^## Unreleased\$/{n;N;d}" CHANGELOG.md
	exit 1
fi
sed -i "s/^version: .*/version: $version/; s/^appVersion: .*/appVersion: $version/" deploy/helm/edgerelay/Chart.yaml
sed -i "s|^\( *version=\)[0-9].*|\1$version|" deploy/kustomize/awx-operator/download/awx.yaml
sed -i "s|\(ghcr.io/edgerelay/edgerelay:\)[0-9].*|\1$version|" deploy/kustomize/awx-operator/image-volume/awx.yaml
