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
	// upstreamWait bounds one question to an upstream, silentWait how long it may take to end a connection that it
	// has left open.
	upstreamWait = 3 * time.Second
	silentWait   = 250 * time.Millisecond
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 20
	// maxUpstreams is how many upstreams are asked.
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

// Site looks at what surrounds the relay in a configuration of Caddy, given as JSON: the admin API, trusted proxies,
// and how AWX's uWSGI is reached. admin is where the admin API listens if the configuration does not say so.
func Site(ctx context.Context, config []byte, admin string) (list []Finding) {
	var s site
	if json.Unmarshal(config, &s) != nil {
		return nil // what Caddy has accepted can be read
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
		return ok(check, "Caddy's admin API is not on TCP, where AWX's webhook notifications could reach it")
	}
	return warn(check, "write admin unix//run/edgerelay/admin.sock|0600 into the global options",
		"Caddy's admin API listens on %s: whoever may edit a notification template of AWX can send requests to it "+
			"from this host, and so take over this Caddy", listen)
}

// proxies warns where clients can choose their address.
func proxies(listen []string, strict bool) Finding {
	const check = "proxies"
	where := strings.Join(listen, " ")
	if strict {
		return ok(check, "a client's address on %s is the one that the nearest trusted proxy saw", where)
	}
	return warn(check, "write trusted_proxies_strict beside trusted_proxies",
		"a client behind the trusted proxies of %s can choose its address, "+
			"since the first entry of X-Forwarded-For counts, which is what the client wrote: "+
			"limits { connections_per_address } is void", where)
}

// proxy is how a reverse_proxy speaks to an upstream.
type proxy struct{ keepAlive, buffers bool }

// findProxies finds the upstreams that are spoken to in plain HTTP, anywhere in routes.
func findProxies(in any, upstreams map[string]proxy) {
	switch in := in.(type) {
	case []any:
		for _, e := range in {
			findProxies(e, upstreams)
		}
	case map[string]any:
		if in["handler"] == "reverse_proxy" {
			noteProxy(in, upstreams)
		}
		for _, e := range in {
			findProxies(e, upstreams)
		}
	}
}

func noteProxy(handler map[string]any, upstreams map[string]proxy) {
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

// upstream finds out whether an upstream ends connections without saying so, as uWSGI's http-socket does, and whether
// the reverse_proxy before it is made for that.
func upstream(ctx context.Context, dial string, p proxy) []Finding {
	const check = "http-socket"
	const remedy = "use `transport uwsgi` and uWSGI's `socket`; else `keepalive off` in `transport http`, " +
		"and `request_buffers 5MiB`"
	silent, err := endsSilently(ctx, dial)
	switch made := !p.keepAlive && p.buffers; {
	case err != nil && made || err == nil && !silent:
		return nil
	case err != nil:
		return []Finding{warn(check, remedy, "%s cannot be asked (%v); if it is an http-socket of uWSGI, "+
			"some POSTs are answered with 502, or slow uploads hold its workers", dial, err)}
	case made:
		return []Finding{ok(check, "%s seems to be an http-socket of uWSGI; "+
			"request bodies without a length (chunked) are lost there, with `transport uwsgi` they are not", dial)}
	case p.keepAlive:
		return []Finding{warn(check, remedy, "%s ends connections without saying so, as uWSGI's http-socket does: "+
			"some POSTs are answered with 502", dial)}
	}
	return []Finding{warn(check, remedy, "%s seems to be an http-socket of uWSGI: slow uploads hold its workers", dial)}
}

// endsSilently asks an upstream on one connection, and tells whether it ends that though its answer did not say so.
// See docs/decisions/operations.md#why-does-the-doctor-test-an-upstream-for-silent-ends
func endsSilently(ctx context.Context, dial string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamWait)
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
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	if err != nil || resp.Close {
		return false, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(silentWait))
	_, err = r.ReadByte()
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded), nil
}

// EventRate tells of the limit that AWX itself puts on live output.
func EventRate() Finding {
	return ok("event rate",
		"AWX itself withholds live output beyond MAX_WEBSOCKET_EVENT_RATE, by default 30 events a second of each job; "+
			"the relay does not need that: set it to 0, or to some hundreds, in AWX's settings for jobs")
}
