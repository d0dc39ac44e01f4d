package doctor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// upstreamTimeout bounds the request to an upstream.
	upstreamTimeout = 3 * time.Second
	// silentEndTimeout is the time in which an upstream may end a connection without an announcement.
	silentEndTimeout = 250 * time.Millisecond
	// maxResponseBytes is the part of a response that is read.
	maxResponseBytes = 1 << 20
	// maxUpstreams is the number of upstreams that are tested.
	maxUpstreams = 8
)

// site is the part of Caddy's configuration that surrounds the relay.
type site struct {
	Admin struct {
		Disabled bool   `json:"disabled"`
		Listen   string `json:"listen"`
	} `json:"admin"`
	Apps struct {
		Edgerelay struct {
			Auth struct {
				Kind string `json:"kind"`
			} `json:"auth"`
		} `json:"edgerelay"`
		HTTP struct {
			Servers map[string]struct {
				Listen               []string        `json:"listen"`
				Routes               json.RawMessage `json:"routes"`
				TrustedProxies       json.RawMessage `json:"trusted_proxies"`
				TrustedProxiesStrict int             `json:"trusted_proxies_strict"`
			} `json:"servers"`
		} `json:"http"`
	} `json:"apps"`
}

// Site checks the surroundings of the relay in a configuration of Caddy, given as JSON: the admin API, trusted proxies,
// and the way to AWX's uWSGI. admin is the address of the admin API if the configuration does not set one.
func Site(ctx context.Context, config []byte, admin string) (list []Finding) {
	var s site
	if json.Unmarshal(config, &s) != nil {
		return nil // cannot be: Caddy has accepted the configuration
	}
	isAWX := s.Apps.Edgerelay.Auth.Kind == "awx"
	if isAWX {
		if s.Admin.Listen != "" {
			admin = s.Admin.Listen
		}
		list = append(list, adminAPI(admin, s.Admin.Disabled))
	}
	upstreams := map[string]proxy{}
	for _, name := range slices.Sorted(maps.Keys(s.Apps.HTTP.Servers)) {
		server := s.Apps.HTTP.Servers[name]
		if len(server.TrustedProxies) > 0 && string(server.TrustedProxies) != "null" {
			list = append(list, proxies(server.Listen, server.TrustedProxiesStrict > 0))
		}
		var routes any
		if isAWX && json.Unmarshal(server.Routes, &routes) == nil {
			findProxies(routes, upstreams)
		}
	}
	asked := 0
	for _, dial := range slices.Sorted(maps.Keys(upstreams)) {
		if asked++; asked > maxUpstreams {
			break
		}
		list = append(list, upstream(ctx, dial, upstreams[dial])...)
	}
	return list
}

// adminAPI warns of an admin API that AWX's webhook notifications can reach.
func adminAPI(listen string, disabled bool) Finding {
	const check = "admin"
	switch {
	case disabled:
		return ok(check, "Caddy's admin API is off")
	case strings.HasPrefix(listen, "unix") || strings.HasPrefix(listen, "fd"):
		return ok(check, "Caddy's admin API is not on TCP, out of reach of AWX's webhook notifications")
	}
	return warn(check, "set the global option admin unix//run/edgerelay/admin.sock|0600",
		"Caddy's admin API listens on %s: users who may edit notification templates in AWX "+
			"can send requests there from this host, and take over this Caddy", listen)
}

// proxies warns of a server that lets clients forge their address.
func proxies(listen []string, strict bool) Finding {
	const check = "proxies"
	where := strings.Join(listen, " ")
	if strict {
		return ok(check, "clients of %s cannot forge their address", where)
	}
	return warn(check, "set trusted_proxies_strict beside trusted_proxies",
		"clients behind the trusted proxies of %s can forge their address in X-Forwarded-For, "+
			"and so evade limits { connections_per_address }", where)
}

// proxy has the settings of a reverse_proxy that matter for an upstream.
type proxy struct{ keepAlive, buffers bool }

// findProxies collects the upstreams of plain HTTP, anywhere in routes.
func findProxies(in any, upstreams map[string]proxy) {
	switch in := in.(type) {
	case []any:
		for _, e := range in {
			findProxies(e, upstreams)
		}
	case map[string]any:
		if in["handler"] == "reverse_proxy" {
			addProxy(in, upstreams)
		}
		for _, e := range in {
			findProxies(e, upstreams)
		}
	}
}

// addProxy adds the upstreams of a reverse_proxy. If several proxies share an upstream, the worst settings count.
func addProxy(handler map[string]any, upstreams map[string]proxy) {
	p := proxy{keepAlive: true}
	if transport, ok := handler["transport"].(map[string]any); ok {
		if protocol, _ := transport["protocol"].(string); protocol != "http" || transport["tls"] != nil {
			return
		}
		if alive, ok := transport["keep_alive"].(map[string]any); ok && alive["enabled"] == false {
			p.keepAlive = false
		}
	}
	if size, _ := handler["request_buffers"].(float64); size != 0 {
		p.buffers = true
	}
	list, _ := handler["upstreams"].([]any)
	for _, u := range list {
		if u, ok := u.(map[string]any); ok {
			if dial, _ := u["dial"].(string); dial != "" && !strings.Contains(dial, "{") {
				known, seen := upstreams[dial]
				upstreams[dial] = proxy{
					keepAlive: p.keepAlive || seen && known.keepAlive,
					buffers:   p.buffers && (!seen || known.buffers),
				}
			}
		}
	}
}

// upstream tests whether an upstream ends connections without an announcement, like uWSGI's http-socket, and whether
// the settings of the reverse_proxy fit.
func upstream(ctx context.Context, dial string, p proxy) []Finding {
	const check = "http-socket"
	const remedy = "use `transport uwsgi` and uWSGI's `socket`; else `keepalive off` in `transport http`, " +
		"and `request_buffers 5MiB`"
	silent, err := endsSilently(ctx, dial)
	switch fits := !p.keepAlive && p.buffers; {
	case err != nil && fits || err == nil && !silent:
		return nil
	case err != nil:
		return []Finding{warn(check, remedy, "%s cannot be tested (%v); with an http-socket of uWSGI, "+
			"some POSTs fail with 502, or slow uploads occupy workers", dial, err)}
	case fits:
		return []Finding{ok(check, "%s looks like an http-socket of uWSGI, which loses request bodies "+
			"without a length (chunked); `transport uwsgi` does not", dial)}
	case p.keepAlive:
		return []Finding{warn(check, remedy, "%s ends connections without an announcement, like uWSGI's http-socket: "+
			"some POSTs fail with 502", dial)}
	}
	return []Finding{warn(check, remedy, "%s looks like an http-socket of uWSGI: slow uploads occupy workers", dial)}
}

// endsSilently sends a request, and reports whether the upstream ends the connection although the response did not
// announce the end.
// See docs/decisions/operations.md#why-does-the-doctor-test-an-upstream-for-silent-ends
func endsSilently(ctx context.Context, dial string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	network, address := "tcp", dial
	if path, ok := strings.CutPrefix(dial, "unix/"); ok {
		network, address = "unix", path
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	const question = "GET /api/v2/ping/ HTTP/1.1\r\nHost: localhost\r\nUser-Agent: edgerelay\r\n\r\n"
	if _, err := io.WriteString(conn, question); err != nil {
		return false, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxResponseBytes))
	if err != nil || resp.Close {
		return false, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(silentEndTimeout))
	_, err = r.ReadByte()
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded), nil
}

// EventRate reminds of the limit that AWX itself puts on live output.
func EventRate() Finding {
	return ok("event rate",
		"AWX withholds live output beyond MAX_WEBSOCKET_EVENT_RATE, by default 30 events a second for each job; "+
			"the relay does not need this limit: set 0, or some hundreds, in AWX's settings for jobs")
}
