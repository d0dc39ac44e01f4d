package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// find returns the findings of one check.
func find(list []Finding, check string) (of []Finding) {
	for _, f := range list {
		if f.Check == check {
			of = append(of, f)
		}
	}
	return of
}

func TestSiteAdmin(t *testing.T) {
	const awx = `"apps": {"edgerelay": {"auth": {"kind": "awx"}}}`
	for _, c := range []struct {
		name, config, otherwise string
		level                   Level
	}{
		{"TCP by default", `{` + awx + `}`, "localhost:2019", Warning},
		{"TCP", `{"admin": {"listen": "127.0.0.1:2020"}, ` + awx + `}`, "unix//run/edgerelay/admin.sock", Warning},
		{
			"Unix socket", `{"admin": {"listen": "unix//run/edgerelay/admin.sock|0600"}, ` + awx + `}`, "localhost:2019",
			OK,
		},
		{"Unix socket by default", `{` + awx + `}`, "unix//run/edgerelay/admin.sock|0600", OK},
		{"off", `{"admin": {"disabled": true}, ` + awx + `}`, "localhost:2019", OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := find(Site(ctx, []byte(c.config), c.otherwise), "admin")
			if len(found) != 1 {
				t.Fatalf("findings: %v", found)
			}
			expect(t, found[0], c.level)
		})
	}
	if found := Site(ctx, []byte(`{"apps": {"edgerelay": {"auth": {"kind": "caddy"}}}}`),
		"localhost:2019"); found != nil {
		t.Errorf("without AWX: %v", found)
	}
}

func TestSiteProxies(t *testing.T) {
	server := func(rest string) []byte {
		return []byte(`{"apps": {"http": {"servers": {"srv0": {"listen": [":443"]` + rest + `}}}}}`)
	}
	const trusted = `, "trusted_proxies": {"source": "static", "ranges": ["10.0.0.0/8"]}`
	if found := Site(ctx, server(""), ""); found != nil {
		t.Errorf("no proxies: %v", found)
	}
	if found := Site(ctx, server(trusted), ""); len(found) != 1 {
		t.Errorf("not strict: %v", found)
	} else {
		expect(t, found[0], Warning, "trusted_proxies_strict", ":443")
	}
	if found := Site(ctx, server(trusted+`, "trusted_proxies_strict": 1`), ""); len(found) != 1 {
		t.Errorf("strict: %v", found)
	} else {
		expect(t, found[0], OK)
	}
}

// reverseProxy is a configuration with a reverse_proxy in a nested route.
func reverseProxy(dial, rest string) []byte {
	return fmt.Appendf(nil, `{"admin": {"disabled": true}, "apps": {"edgerelay": {"auth": {"kind": "awx"}},
	"http": {"servers": {"srv0": {"routes": [
		{"handle": [{"handler": "subroute", "routes": [
			{"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": %q}]%s}]}
		]}]}
	]}}}}}`, dial, rest)
}

// The test runs a real uWSGI, because doctor looks for a fault of uWSGI.
func TestSiteHTTPSocket(t *testing.T) {
	t.Parallel()
	address := peers.StartPlainUWSGI(t)
	keeps := httptest.NewServer(http.NotFoundHandler())
	defer keeps.Close()
	closes := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
	}))
	defer closes.Close()
	const off = `, "transport": {"protocol": "http", "keep_alive": {"enabled": false}}`
	gone := fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	for _, c := range []struct {
		name, dial, rest string
		level            Level
		word             string
	}{
		{"connections kept", address, "", Warning, "502"},
		{"kept, buffered", address, `, "request_buffers": 5242880`, Warning, "keepalive off"},
		{"not buffered", address, off, Warning, "request_buffers"},
		{"as it should be", address, off + `, "request_buffers": 5242880`, OK, "chunked"},
		{"uwsgi", address, `, "transport": {"protocol": "uwsgi"}`, "", ""},
		{"another server", strings.TrimPrefix(keeps.URL, "http://"), "", "", ""},
		{"a server that says so", strings.TrimPrefix(closes.URL, "http://"), "", "", ""},
		{"does not answer", gone, "", Warning, gone},
		{"does not answer, as it should be", gone, off + `, "request_buffers": 5242880`, "", ""},
		{"placeholder", "{env.AWX}", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := find(Site(ctx, reverseProxy(c.dial, c.rest), ""), "http-socket")
			if c.level == "" {
				if found != nil {
					t.Errorf("findings: %v", found)
				}
				return
			}
			if len(found) != 1 {
				t.Fatalf("findings: %v", found)
			}
			expect(t, found[0], c.level, c.word)
		})
	}
}
