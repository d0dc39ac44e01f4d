package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// awxSite is a site of examples/awx before a real uWSGI.
type awxSite struct {
	*peers.Relay
	uwsgi *peers.UWSGI
}

// startAWXExample starts a Caddyfile of examples/awx.
func startAWXExample(t *testing.T, e peers.AWXExample) awxSite {
	t.Helper()
	uwsgi := peers.StartUWSGI(t, 3)
	public := t.TempDir()
	for name, text := range map[string]string{
		"static/page.js": strings.Repeat("// a page of AWX\n", 500), "static/media/favicon.ico": "an icon",
		"static/awx/locales/de.json": "{}",
	} {
		file := filepath.Join(public, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e.UWSGI, e.Redis, e.Public = uwsgi.Socket, peers.StartRedis(t).URL, public
	return awxSite{peers.StartRelay(t, e.Text(t)), uwsgi}
}

// served is what a site says.
type served struct {
	status int
	header http.Header
	body   []byte
}

// environ is what the application was told.
func (a served) environ(t *testing.T) uwsgiEnviron {
	t.Helper()
	var e uwsgiEnviron
	if err := json.Unmarshal(a.body, &e); err != nil {
		t.Fatalf("%d %.200s", a.status, a.body)
	}
	return e
}

// requestOf sends a request with headers, each as "Name: value", and no others but Go's own.
func requestOf(t *testing.T, method, address string, body io.Reader, headers ...string) served {
	t.Helper()
	req, err := http.NewRequest(method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	client := http.Client{
		Transport: &http.Transport{
			DisableCompression: true, DisableKeepAlives: true, ExpectContinueTimeout: patience,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return served{resp.StatusCode, resp.Header, text}
}

// The differences from AWX's nginx that docs/awx-compared.md lists are those, and no others: examples/awx/Caddyfile and
// Caddyfile.pod as they are, but for places, before a real uWSGI.
func TestAWXExample(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Caddyfile", "Caddyfile.pod"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replace := map[string]string(nil)
			if name == "Caddyfile.pod" { // the secret, and proxies in the way of what is tested here
				replace = map[string]string{
					"{env.BROADCAST_WEBSOCKET_SECRET}":      "secret",
					"trusted_proxies static private_ranges": "trusted_proxies static 192.0.2.1",
				}
			}
			s := startAWXExample(t, peers.AWXExample{Name: name, Replace: replace})
			t.Run("body limit", s.bodyLimit)
			t.Run("slashes", s.slashes)
			t.Run("compression", s.compression)
			t.Run("access log", s.accessLog)
			t.Run("variables", s.variables)
			t.Run("headers", s.headers)
			t.Run("files", s.files)
			t.Run("POSTs", s.posts)
		})
	}
}

// nginx's client_max_body_size 5M, to the byte, with and without a length. Expect lets the client see an answer that
// comes early.
func (s awxSite) bodyLimit(t *testing.T) {
	const limit = 5 << 20
	for size, want := range map[int]int{limit: http.StatusOK, limit + 1: http.StatusRequestEntityTooLarge} {
		text := bytes.Repeat([]byte("a"), size)
		for kind, body := range map[string]io.Reader{
			"with a length": bytes.NewReader(text),
			"chunked":       io.MultiReader(bytes.NewReader(text)),
		} {
			got := requestOf(t, http.MethodPost, s.URL+"/post", body, "Expect: 100-continue")
			if got.status != want || want == http.StatusOK && string(got.body) != fmt.Sprintln(size) {
				t.Errorf("%d bytes, %s: %d %.100s, want %d", size, kind, got.status, got.body, want)
			}
		}
	}
}

func (s awxSite) slashes(t *testing.T) {
	for path, want := range map[string]string{
		"/api/v2/ping/":     "/api/v2/ping/",
		"//api/v2/ping/":    "/api/v2/ping/",
		"/api//v2///ping//": "/api/v2/ping/",
		"/a%2F%2Fb/":        "/a/b/", // nginx merges these, too
		"/a%20%C3%A4/":      "/a ä/",
	} {
		e := requestOf(t, http.MethodGet, s.URL+path+"?next=//x%2F%2Fy", nil).environ(t)
		if e.get("PATH_INFO") != latin1(want) || e.get("QUERY_STRING") != "next=//x%2F%2Fy" ||
			e.get("REQUEST_URI") != path+"?next=//x%2F%2Fy" {
			t.Errorf("%s: PATH_INFO %q, QUERY_STRING %q, REQUEST_URI %q", path, e.get("PATH_INFO"),
				e.get("QUERY_STRING"), e.get("REQUEST_URI"))
		}
	}
	if got := requestOf(t, http.MethodGet, s.URL+"//static//page.js", nil); got.status != http.StatusOK ||
		!strings.HasPrefix(string(got.body), "// a page") {
		t.Errorf("//static//page.js: %d %.100s", got.status, got.body)
	}
	// The websocket's path does not reach the application by another way of writing it.
	upgrade := []string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Origin: https://elsewhere.example",
	}
	for _, path := range []string{"/websocket/", "//websocket/", "/websocket//", "/api//websocket/"} {
		if got := requestOf(t, http.MethodGet, s.URL+path, nil, upgrade...); got.status != http.StatusForbidden {
			t.Errorf("a page of another site at %s: %d %.100s", path, got.status, got.body)
		}
	}
}

// latin1 is how WSGI shows the bytes of a text.
func latin1(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteRune(rune(c))
	}
	return b.String()
}

func (s awxSite) compression(t *testing.T) {
	const accept = "Accept-Encoding: gzip, zstd, br"
	for _, path := range []string{"/api/v2/me/", "/large?100000"} {
		if got := requestOf(t, http.MethodGet, s.URL+path, nil, accept); got.status != http.StatusOK ||
			got.header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %d, compressed by %q", path, got.status, got.header.Get("Content-Encoding"))
		}
	}
	got := requestOf(t, http.MethodGet, s.URL+"/static/page.js", nil, "Accept-Encoding: gzip")
	r, err := gzip.NewReader(bytes.NewReader(got.body))
	if err != nil {
		t.Fatalf("a file is not compressed: %v, %v", err, got.header)
	}
	if text, err := io.ReadAll(r); err != nil || !strings.HasPrefix(string(text), "// a page") {
		t.Errorf("the file is %.100s (%v)", text, err)
	}
}

// A line for each request, without the login.
func (s awxSite) accessLog(t *testing.T) {
	requestOf(t, http.MethodGet, s.URL+"/api/v2/jobs/4711/", nil, "Cookie: awx_sessionid=hunter2",
		"Authorization: Bearer hunter2")
	testkit.Eventually(t, "the line", func() error {
		for line := range strings.Lines(s.Log()) {
			if strings.Contains(line, "http.log.access") && strings.Contains(line, `"uri":"/api/v2/jobs/4711/"`) &&
				strings.Contains(line, `"status":200`) {
				return nil
			}
		}
		return fmt.Errorf("there is none")
	})
	if strings.Contains(s.Log(), "hunter2") {
		t.Error("the log has the login")
	}
}

// What clients say of themselves is not believed.
func (s awxSite) variables(t *testing.T) {
	e := requestOf(t, http.MethodGet, s.URL+"/", nil, "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https",
		"X-Forwarded-Port: 666",
		"X-Real-IP: 6.6.6.6", "Remote-Addr: 6.6.6.6", "Host: ignored").environ(t)
	host := strings.TrimPrefix(s.URL, "http://")
	for name, want := range map[string]string{
		"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_X_FORWARDED_PROTO": "http",
		"HTTP_X_FORWARDED_PORT": "443",
		"wsgi.url_scheme":       "http", "HTTPS": "", "HTTP_HOST": host,
		"SERVER_PORT": host[strings.Index(host, ":")+1:],
		"SCRIPT_NAME": "", "REQUEST_METHOD": "GET",
	} {
		if e.get(name) != want {
			t.Errorf("%s is %q, want %q", name, e.get(name), want)
		}
	}
}

func (s awxSite) headers(t *testing.T) {
	for path, headers := range map[string]map[string]string{
		"/api/v2/me/": {
			"Strict-Transport-Security": "max-age=15768000", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY",
			"Cache-Control":   "no-cache, no-store, must-revalidate", "Expires": "0", "Pragma": "no-cache",
		},
		"/static/page.js": {
			"Strict-Transport-Security": "max-age=15768000", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY",
			"Cache-Control":   "", "Expires": "", "Pragma": "",
		},
	} {
		got := requestOf(t, http.MethodGet, s.URL+path, nil)
		for name, want := range headers {
			if values := strings.Join(got.header.Values(name), "; "); values != want {
				t.Errorf("%s: %s is %q, want %q", path, name, values, want)
			}
		}
	}
}

func (s awxSite) files(t *testing.T) {
	for path, want := range map[string]string{"/favicon.ico": "an icon", "/locales/de.json": "{}"} {
		if got := requestOf(t, http.MethodGet, s.URL+path, nil); got.status != http.StatusOK ||
			string(got.body) != want {
			t.Errorf("%s: %d %.100s", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/static/missing.js", "/static../static/page.js", "/static/../../etc/passwd"} {
		if got := requestOf(t, http.MethodGet, s.URL+path, nil); strings.HasPrefix(string(got.body), "// a page") ||
			got.status == http.StatusOK && strings.HasPrefix(path, "/static/m") {
			t.Errorf("%s: %d %.100s", path, got.status, got.body)
		}
	}
}

func (s awxSite) posts(t *testing.T) {
	var mu sync.Mutex
	failures := map[string]int{}
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			client := http.Client{Transport: new(http.Transport), Timeout: patience}
			defer client.CloseIdleConnections()
			for range 100 {
				resp, err := client.Post(s.URL+"/post", "text/plain", strings.NewReader(strings.Repeat("a", 100)))
				failure := fmt.Sprint(err)
				if err == nil {
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					failure = fmt.Sprintf("%s %s%v", resp.Status, body, err)
				}
				if failure != "200 OK 100\n<nil>" {
					mu.Lock()
					failures[failure]++
					mu.Unlock()
				}
			}
		})
	}
	clients.Wait()
	if len(failures) > 0 {
		t.Errorf("of 800 POSTs failed: %v", failures)
	}
}

// Behind the load balancer of the comment, the browser's address and scheme are those that the load balancer has seen.
func TestAWXExampleBehindProxy(t *testing.T) {
	t.Parallel()
	s := startAWXExample(t, peers.AWXExample{Name: "Caddyfile", Replace: map[string]string{
		"# trusted_proxies static 10.0.0.5 10.0.0.6": "trusted_proxies static 127.0.0.1",
		"# trusted_proxies_strict":                   "trusted_proxies_strict",
	}})
	e := requestOf(t, http.MethodGet, s.URL+"/", nil, "X-Forwarded-For: 6.6.6.6, 203.0.113.9",
		"X-Forwarded-Proto: https").environ(t)
	for name, want := range map[string]string{
		"REMOTE_ADDR": "203.0.113.9", "wsgi.url_scheme": "https", "HTTPS": "on",
		"HTTP_X_FORWARDED_PROTO": "https",
	} {
		if e.get(name) != want {
			t.Errorf("%s is %q, want %q", name, e.get(name), want)
		}
	}
}

// The sites for OpenShift's passthrough routes, which are comments in Caddyfile.pod: TLS on a port of its own, also
// for clients that do not name a host, and redirects to it.
func TestAWXExamplePassthrough(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 1)
	certs := peers.MakeCertificates(t)
	port := testkit.FreePort(t)
	text := peers.AWXExample{
		Name: "Caddyfile.pod", UWSGI: uwsgi.Socket, Redis: peers.StartRedis(t).URL,
		Public: t.TempDir(), Sites: "{$SITE}",
	}.Text(t)
	before, comment, found := strings.Cut(text, "\n# http://:8052 {\n")
	before, _, cut := strings.Cut(before, "\n{$SITE} {\n\timport awx\n}\n")
	if !found || !cut {
		t.Fatal("Caddyfile.pod has no sites for passthrough routes any more")
	}
	sites := strings.ReplaceAll(strings.ReplaceAll("\n# {$SITE} {\n"+comment, "\n# ", "\n"), "\n#\n", "\n\n")
	config := before + strings.NewReplacer("8053", fmt.Sprint(port), "/etc/nginx/pki/web.crt", certs.Cert,
		"/etc/nginx/pki/web.key", certs.Key).Replace(sites)
	config = strings.NewReplacer("{env.BROADCAST_WEBSOCKET_SECRET}", "secret", "\tauto_https off\n",
		"\tauto_https off\n\tdefault_bind 127.0.0.1 127.0.0.2\n").Replace(config)
	relay := peers.StartRelay(t, "{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n}\n")
	if err := relay.Load(config); err != nil {
		t.Fatal(err)
	}
	got := requestOf(t, http.MethodGet, relay.URL+"/api/v2/ping/?a=b", nil)
	if want := fmt.Sprintf("https://127.0.0.1:%d/api/v2/ping/?a=b",
		port); got.status != http.StatusMovedPermanently || got.header.Get("Location") != want {
		t.Errorf("%d to %q, want %q", got.status, got.header.Get("Location"), want)
	}
	// The certificate is for another name than the one by which it is asked for.
	e := requestOf(t, http.MethodGet, fmt.Sprintf("https://127.0.0.2:%d//api/v2/ping/", port), nil).environ(t)
	for name, want := range map[string]string{
		"PATH_INFO": "/api/v2/ping/", "HTTPS": "on", "wsgi.url_scheme": "https",
		"HTTP_X_FORWARDED_PORT": "443",
	} {
		if e.get(name) != want {
			t.Errorf("%s is %q, want %q", name, e.get(name), want)
		}
	}
}
