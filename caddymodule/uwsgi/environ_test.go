package uwsgi

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// provisioned provisions and validates a transport outside of a reverse_proxy.
func provisioned(t *testing.T, transport *Transport) *Transport {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := transport.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := transport.Validate(); err != nil {
		t.Fatal(err)
	}
	transport.log = slog.New(slog.DiscardHandler)
	return transport
}

// incoming returns a request as reverse_proxy passes requests to a transport.
func incoming(method, target string, vars map[string]any) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	original := *r
	u := *r.URL
	original.URL = &u
	if vars == nil {
		vars = map[string]any{}
	}
	if vars[caddyhttp.ClientIPVarKey] == nil {
		vars[caddyhttp.ClientIPVarKey] = "192.0.2.1"
	}
	ctx := context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars)
	ctx = context.WithValue(ctx, caddyhttp.OriginalRequestCtxKey, original)
	repl := caddy.NewReplacer()
	repl.Set("http.vars.root", "/srv")
	repl.Set("custom", "value")
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, repl)
	local := net.Addr(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 8080})
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, local)
	return r.WithContext(ctx)
}

// decode reads the variables of a packet.
func decode(t *testing.T, b []byte) map[string]string {
	t.Helper()
	vars := map[string]string{}
	next := func() string {
		n := int(binary.LittleEndian.Uint16(b))
		text := string(b[2 : 2+n])
		b = b[2+n:]
		return text
	}
	for b = b[headerSize:]; len(b) > 0; {
		name := next()
		if _, twice := vars[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		vars[name] = next()
	}
	return vars
}

func TestVariables(t *testing.T) {
	for _, c := range []struct {
		name      string
		transport *Transport
		target    string
		change    func(r *http.Request)
		want      map[string]string
		absent    []string
	}{
		{
			name: "plain", target: "/a%20b/?c=%2f", want: map[string]string{
				"REQUEST_METHOD": "GET", "QUERY_STRING": "c=%2f", "REQUEST_URI": "/a%20b/?c=%2f", "PATH_INFO": "/a b/",
				"DOCUMENT_ROOT":   "/srv",
				"SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_SCHEME": "http", "UWSGI_SCHEME": "http",
				"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "1234",
				"SERVER_PORT": "8080", "SERVER_NAME": "example.com", "HTTP_HOST": "example.com", "CONTENT_TYPE": "",
			}, absent: []string{"HTTPS", "SCRIPT_NAME", "HTTP_USER_AGENT"},
		},
		{
			name: "TLS", target: "https://example.com:8443/", want: map[string]string{
				"HTTPS": "on", "REQUEST_SCHEME": "https", "UWSGI_SCHEME": "https", "SERVER_PORT": "8080",
				"SERVER_NAME": "example.com",
			},
		},
		{
			name: "a trusted proxy ended TLS", target: "/", change: func(r *http.Request) {
				r.Header.Set("X-Forwarded-Proto", "HTTPS")
				caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "2001:db8::7")
			}, want: map[string]string{
				"HTTPS": "on", "UWSGI_SCHEME": "https", "SERVER_PORT": "443",
				"REMOTE_ADDR": "2001:db8::7", "REMOTE_PORT": "",
			},
		},
		{
			name: "a trusted proxy ended TLS on another port", target: "/", change: func(r *http.Request) {
				r.Header.Set("X-Forwarded-Proto", "https")
				r.Host = "[::1]:8443"
			}, want: map[string]string{"SERVER_PORT": "8443", "SERVER_NAME": "::1", "HTTP_HOST": "[::1]:8443"},
		},
		{
			name: "nonsense for a scheme", target: "/", change: func(r *http.Request) {
				r.Header.Set("X-Forwarded-Proto", "gopher")
				r.Header.Set("X-Forwarded-Ssl", "on")
			}, want: map[string]string{"UWSGI_SCHEME": "http", "REQUEST_SCHEME": "http"}, absent: []string{"HTTPS"},
		},
		{
			name: "a site on a Unix socket", target: "/", change: func(r *http.Request) {
				r.RemoteAddr = "@"
				caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "")
				*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey,
					net.Addr(&net.UnixAddr{Name: "/x.sock", Net: "unix"})))
			}, want: map[string]string{"REMOTE_ADDR": "unix:", "REMOTE_PORT": "", "SERVER_PORT": "80"},
		},
		{
			name: "an IPv6 client with a zone", target: "/", change: func(r *http.Request) {
				r.RemoteAddr = "[fe80::1%eth0]:99"
				caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "fe80::1")
			}, want: map[string]string{"REMOTE_ADDR": "fe80::1", "REMOTE_PORT": "99"},
		},
		{
			name: "no Host", target: "/", change: func(r *http.Request) { r.Host = "" },
			want: map[string]string{"SERVER_NAME": "10.0.0.1"}, absent: []string{"HTTP_HOST"},
		},
		{
			name: "headers", target: "/", change: func(r *http.Request) {
				r.Header = http.Header{
					"X-Real-Ip": {"1"}, "X_real_ip": {"2"}, "X.y": {"3"}, "Proxy": {"4"}, "Cookie": {"a=1", "b=2"},
					"Accept":            {"x", "y"},
					"Transfer-Encoding": {"chunked"}, "Connection": {"Upgrade"}, "Upgrade": {"h2c"},
					"Expect": {"100-continue"}, "Te": {"trailers"},
					"Content-Length": {"7"}, "Content-Type": {"text/plain"}, "Host": {"evil"}, "User-Agent": {""},
					"Empty": {""}, "Gone": nil,
				}
			}, want: map[string]string{
				"HTTP_X_REAL_IP": "1", "HTTP_COOKIE": "a=1; b=2", "HTTP_ACCEPT": "x, y", "CONTENT_TYPE": "text/plain",
				"HTTP_EMPTY": "",
				"HTTP_HOST":  "example.com",
			}, absent: []string{
				"HTTP_PROXY", "HTTP_X.Y", "HTTP_TRANSFER_ENCODING", "HTTP_CONNECTION", "HTTP_UPGRADE",
				"HTTP_EXPECT", "HTTP_TE",
				"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_USER_AGENT", "HTTP_GONE", "CONTENT_LENGTH",
			},
		},
		{
			name: "env", target: "/", transport: &Transport{Env: map[string]string{
				"REMOTE_ADDR": "10.9.8.7", "HTTP_X_TOKEN": "ours", "NEW": "a {custom} {absent}",
			}}, change: func(r *http.Request) {
				r.Header.Set("X-Token", "theirs")
			}, want: map[string]string{"REMOTE_ADDR": "10.9.8.7", "HTTP_X_TOKEN": "ours", "NEW": "a value "},
		},
		{
			name: "mounted", target: "/awx/api/?x", transport: &Transport{ScriptName: "/awx/", Root: "/r"},
			want: map[string]string{
				"SCRIPT_NAME": "/awx", "PATH_INFO": "/api/", "REQUEST_URI": "/awx/api/?x",
				"DOCUMENT_ROOT": "/r",
			},
		},
		{
			name: "mounted, the mount itself", target: "/awx", transport: &Transport{ScriptName: "/awx"},
			want: map[string]string{"SCRIPT_NAME": "/awx", "PATH_INFO": ""},
		},
		{
			name: "mounted, another path with the same beginning", target: "/awxes",
			transport: &Transport{ScriptName: "/awx"},
			want:      map[string]string{"SCRIPT_NAME": "/awx", "PATH_INFO": "/awxes"},
		},
		{
			name: "mounted, and the site stripped the prefix", target: "/awx/awx/x",
			transport: &Transport{ScriptName: "/awx"},
			change:    func(r *http.Request) { r.URL.Path = "/awx/x" },
			want:      map[string]string{"SCRIPT_NAME": "/awx", "PATH_INFO": "/awx/x", "REQUEST_URI": "/awx/awx/x"},
		},
		{
			name: "a rewrite", target: "/old?a=1",
			change: func(r *http.Request) { r.URL.Path, r.URL.RawQuery = "/new", "b=2" },
			want:   map[string]string{"PATH_INFO": "/new", "QUERY_STRING": "b=2", "REQUEST_URI": "/old?a=1"},
		},
		{
			name: "slashes", target: "//a///b/../c",
			want: map[string]string{"PATH_INFO": "/a/c", "REQUEST_URI": "//a///b/../c"},
		},
		{
			name: "kept slashes", target: "/a//b/./c", transport: &Transport{KeepSlashes: true},
			want: map[string]string{"PATH_INFO": "/a//b/c"},
		},
		{
			name: "an extended CONNECT", target: "/", change: func(r *http.Request) {
				r.Proto, r.ProtoMajor, r.ProtoMinor = "websocket", 3, 0
			},
			want: map[string]string{"SERVER_PROTOCOL": "HTTP/3.0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := incoming(http.MethodGet, c.target, nil)
			if strings.HasPrefix(c.target, "https:") {
				r.TLS = &tls.ConnectionState{}
			}
			if c.change != nil {
				c.change(r)
			}
			if c.transport == nil {
				c.transport = &Transport{}
			}
			transport := provisioned(t, c.transport)
			p, err := transport.buildPacket(r)
			if err != nil {
				t.Fatal(err)
			}
			got := decode(t, p.bytes())
			for name, value := range c.want {
				if got[name] != value {
					t.Errorf("%s is %q, want %q", name, got[name], value)
				}
			}
			for _, name := range c.absent {
				if value, ok := got[name]; ok {
					t.Errorf("%s is there, %q", name, value)
				}
			}
		})
	}
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	transport := provisioned(t, &Transport{})
	for name, c := range map[string]struct {
		change func(r *http.Request)
		want   int
	}{
		"a zero byte": {func(r *http.Request) { r.URL.Path = "/a\x00b" }, http.StatusBadRequest},
		"a huge header": {
			func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 65_500)) },
			http.StatusRequestHeaderFieldsTooLarge,
		},
		"many headers": {func(r *http.Request) {
			for i := range 1000 {
				r.Header.Set("X-"+strings.Repeat("y", i), strings.Repeat("x", 100))
			}
		}, http.StatusRequestHeaderFieldsTooLarge},
	} {
		for _, passive := range []bool{false, true} {
			transport.passive = passive
			r := incoming(http.MethodGet, "/", nil)
			c.change(r)
			resp, err := transport.RoundTrip(r)
			handled, _ := errors.AsType[caddyhttp.HandlerError](err)
			if !passive && handled.StatusCode != c.want || passive && (err != nil || resp.StatusCode != c.want) {
				t.Errorf("%s, passive %t: got %v (%v), want %d", name, passive, resp, err, c.want)
			}
		}
	}
}

func TestCleanPath(t *testing.T) {
	for path, want := range map[string][2]string{ // merged, kept
		"":               {"/", "/"},
		"/":              {"/", "/"},
		"a":              {"/a", "/a"},
		"/a/b/":          {"/a/b/", "/a/b/"},
		"//":             {"/", "//"},
		"//a//b//":       {"/a/b/", "//a//b//"},
		"/./a/.":         {"/a/", "/a/"},
		"/a/..":          {"/", "/"},
		"/a/b/../":       {"/a/", "/a/"},
		"/../../etc":     {"/etc", "/etc"},
		"/a/.../b":       {"/a/.../b", "/a/.../b"},
		"/.well-known/x": {"/.well-known/x", "/.well-known/x"},
		"/\xe4//\xff/..": {"/\xe4/", "/\xe4//"},
	} {
		for i, merge := range []bool{true, false} {
			if got := cleanPath(path, merge); got != want[i] {
				t.Errorf("%q, merge %t: got %q, want %q", path, merge, got, want[i])
			}
		}
	}
}
