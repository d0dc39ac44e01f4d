// Package deploy tests what is in deploy and the compose files of the examples: the Helm chart, the kustomize overlays
// and the packages. It is a module of its own, so that users of edgerelay do not download Helm and Kubernetes. `make
// deploy-test` runs it, as root on Debian.
package deploy
