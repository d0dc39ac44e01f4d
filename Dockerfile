# edgerelay in a container: Caddy with the relay and nothing else, as a user without rights.
#
#   docker build -t edgerelay .
#   docker run -p 80:8080 -p 443:8443 -v ./Caddyfile:/etc/edgerelay/Caddyfile:ro -v edgerelay:/data \
#     --ulimit nofile=1048576:1048576 edgerelay
#
# Your Caddyfile begins as deploy/container/Caddyfile does, which is what runs without one: ports
# below 1024 are not for this user. If it has `admin`, give CADDY_ADMIN the same value
# (-e CADDY_ADMIN=localhost:2019): the health check looks there.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOTOOLCHAIN=local go build -buildvcs=false -trimpath -tags=nobadger,nomysql,nopgx -ldflags="-s -w" -pgo=deploy/default.pgo -o /out/usr/bin/caddy ./caddymodule/cmd/caddy
RUN mkdir -p /out/etc/ssl/certs /out/etc/edgerelay /out/tmp /data && mkdir -m 0700 /run/edgerelay \
	&& cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
	&& cp deploy/container/Caddyfile /out/etc/edgerelay/ \
	&& chmod 1777 /out/tmp

FROM scratch
COPY --from=build /out /
COPY --from=build --chown=65532:65532 /data /data
# Caddy's admin API listens on a socket here. In a container with a read-only root, mount a tmpfs on it, and a volume on
# /tmp, where transport uwsgi buffers large bodies.
COPY --from=build --chown=65532:65532 /run/edgerelay /run/edgerelay
USER 65532:65532
ENV HOME=/data XDG_DATA_HOME=/data XDG_CONFIG_HOME=/data CADDY_ADMIN=unix//run/edgerelay/admin.sock|0600
# WebSockets over HTTP/2, for all sites of this Caddy: see docs/http2.md.
#ENV GODEBUG=http2xconnect=1
VOLUME /data
EXPOSE 8080 8443
# Whether the process answers. Not whether Redis does: that is no reason to end everybody's connection.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/usr/bin/caddy", "edgerelay", "health", "--live"]
ENTRYPOINT ["/usr/bin/caddy"]
CMD ["run", "--config", "/etc/edgerelay/Caddyfile", "--adapter", "caddyfile"]
