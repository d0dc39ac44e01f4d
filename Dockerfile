# edgerelay in a container: Caddy with the relay and nothing else, as a user without rights.
#
#   docker build -t edgerelay --build-arg VERSION=$(git describe --tags --always --dirty) .
#   docker run -p 80:8080 -p 443:8443 -v ./Caddyfile:/etc/edgerelay/Caddyfile:ro -v edgerelay:/data \
#     --ulimit nofile=1048576:1048576 edgerelay
#
# Your Caddyfile begins as deploy/container/Caddyfile does, which is what runs without one: ports
# below 1024 are not for this user. If it has `admin`, give CADDY_ADMIN the same value
# (-e CADDY_ADMIN=localhost:2019): the health check looks there.
#
# Several architectures are cross-compiled, without emulation:
#   docker buildx build --platform linux/amd64,linux/arm64 .
#
# The base images have tags, so that each build gets their security fixes. The provenance of a release has their digests.
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS=linux
ARG TARGETARCH
# The version that the binary reports: .git is not part of the build.
ARG VERSION=
RUN CGO_ENABLED=0 GOTOOLCHAIN=local GOOS=$TARGETOS GOARCH=$TARGETARCH go build -buildvcs=false -trimpath -tags=nobadger,nomysql,nopgx -ldflags="-s -w -X github.com/edgerelay/edgerelay/caddymodule/node.stamped=$VERSION" -pgo=deploy/default.pgo -o /tmp/caddy ./caddymodule/cmd/caddy
RUN deploy/container/rootfs.sh /tmp/caddy /out

FROM scratch AS edgerelay
COPY --from=build /out /
# Again for their owner, which COPY of a folder above does not keep.
COPY --from=build --chown=65532:65532 /out/data /data
# Caddy's admin API listens on a socket here. In a container with a read-only root, mount a tmpfs on it, and a volume on
# /tmp, where transport uwsgi buffers large bodies.
COPY --from=build --chown=65532:65532 /out/run/edgerelay /run/edgerelay
ARG VERSION=
LABEL org.opencontainers.image.title="edgerelay" \
	org.opencontainers.image.description="Realtime edge for AWX and Django Channels sites: Caddy with the edgerelay module" \
	org.opencontainers.image.source="https://github.com/edgerelay/edgerelay" \
	org.opencontainers.image.documentation="https://github.com/edgerelay/edgerelay/tree/main/docs" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="$VERSION"
USER 65532:65532
ENV HOME=/data XDG_DATA_HOME=/data XDG_CONFIG_HOME=/data CADDY_ADMIN=unix//run/edgerelay/admin.sock|0600
# WebSockets over HTTP/2, for all sites of this Caddy: see docs/http2.md.
#ENV GODEBUG=http2xconnect=1
VOLUME /data
EXPOSE 8080 8443
# Whether the process answers. Not whether Redis does: that is no reason to end everybody's connection. In the start period
# failures do not count: each module of a plugin may take two minutes to compile on a busy machine.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5m --retries=3 CMD ["/usr/bin/caddy", "edgerelay", "health", "--live"]
ENTRYPOINT ["/usr/bin/caddy"]
CMD ["run", "--config", "/etc/edgerelay/Caddyfile", "--adapter", "caddyfile"]
