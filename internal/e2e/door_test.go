package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// doorSite is a Caddyfile with lines in the global options, in the option edgerelay, and in the site.
func doorSite(global, option, site string) string {
	return "{\n\tadmin {$ADMIN}\n\tpersist_config off\n\tskip_install_trust\n" + global +
		"\n\tedgerelay {\n" + option + "\n\t}\n}\n{$SITE} {\n\tbind 127.0.0.1\n" + site + "\n}\n"
}

// trustLoopback makes the test a trusted proxy.
const trustLoopback = "\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}\n"

// shakeAt sends a handshake to a path, with header lines as in [wstest.Wire.Handshake], and returns the response. The
// connection stays open until the test ends.
func shakeAt(t *testing.T, url, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	w, err := wstest.DialWire(t, url)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(w.Handshake(path, headers...)); err != nil {
		t.Fatal(err)
	}
	resp, body, err := w.Response()
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// statuses makes a handshake for each client address and returns how they were answered.
func statuses(t *testing.T, url string, addresses ...string) (got []int) {
	t.Helper()
	for _, a := range addresses {
		resp, _ := shakeAt(t, url, "/websocket/", "X-Forwarded-For: "+a)
		got = append(got, resp.StatusCode)
	}
	return got
}

// An IPv6 client has as many addresses as it likes, so its /64 is counted. Operators still see whole addresses.
func TestIPv6ClientsAreCountedByPrefix(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, doorSite(trustLoopback, "auth none\nlimits {\nconnections_per_address 3\n}", "edgerelay"))
	for _, c := range []struct {
		name      string
		addresses []string
		want      []int
	}{
		{
			"one /64",
			[]string{"2001:db8:1:1::a", "2001:db8:1:1::b", "2001:db8:1:1:ffff::1", "2001:db8:1:1::d"},
			[]int{101, 101, 101, 429},
		},
		{"another /64", []string{"2001:db8:1:2::a"}, []int{101}},
		{"IPv4", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}, []int{101, 101, 101, 101}},
		{
			"IPv4 behind a translator",
			[]string{"64:ff9b::c633:6401", "64:ff9b::c633:6402", "64:ff9b::c633:6403", "64:ff9b::c633:6404"},
			[]int{101, 101, 101, 101},
		},
	} {
		if got := statuses(t, r.URL, c.addresses...); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if list := fetch(t, r.Admin+"/edgerelay/connections"); !strings.Contains(list, `"2001:db8:1:1::b"`) {
		t.Errorf("the admin API does not show a whole address: %s", list)
	}
	logs(t, r, `"address":"2001:db8:1:1::d"`, 1)
}

// Handshakes that wait for the authority are bounded by address, and what is refused is counted and logged with its
// remedy.
func TestPendingHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(api.Close)
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	r := peers.StartRelay(t, doorSite(trustLoopback,
		"auth awx "+api.URL+" {\ntimeout 60s\n}\nlimits {\npending_per_address 8\n}", "edgerelay"))
	pending := func(address string, n int) (refused int) {
		answers := make(chan int, n)
		for i := range n {
			w, err := wstest.DialWire(t, r.URL)
			if err != nil {
				t.Fatal(err)
			}
			cookie := fmt.Sprintf("Cookie: awx_sessionid=%s-%d", address, i)
			if err := w.Write(w.Handshake("/websocket/", cookie, "X-Forwarded-For: "+address)); err != nil {
				t.Fatal(err)
			}
			go func() {
				if resp, _, err := w.Response(); err == nil {
					if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
						t.Error("429 without Retry-After")
					}
					answers <- resp.StatusCode
				}
			}()
		}
		for range n - 8 {
			if <-answers == http.StatusTooManyRequests {
				refused++
			}
		}
		return refused
	}
	for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
		if got := pending(address, 20); got != 12 {
			t.Errorf("of 20 handshakes from %s %d were refused, want 12", address, got)
		}
	}
	logs(t, r, "client rejected: too many pending handshakes", 24)
	logs(t, r, "raise pending_per_address", 24)
	if want := `edgerelay_connections_ended_total{reason="pending"} 24`; !strings.Contains(fetch(t,
		r.Admin+"/metrics"), want) {
		t.Errorf("no metric %s", want)
	}
}

// A refused handshake runs the site's error routes; without them, and where none matches, the client gets a short text.
func TestRefusalsRunErrorRoutes(t *testing.T) {
	t.Parallel()
	access := filepath.Join(t.TempDir(), "access.log")
	port := testkit.FreePort(t)
	url := fmt.Sprint("http://127.0.0.1:", port)
	r := peers.StartRelay(t, doorSite("", "auth caddy\nunauthenticated reject", "respond ok")+fmt.Sprintf(`
%s {
	bind 127.0.0.1
	log {
		output file %s
	}
	log_append refused {http.edgerelay.reason}
	edgerelay
	edgerelay_console /console/ {
		operators alice
	}
	handle_errors 403 {
		respond "page {err.status_code} {http.edgerelay.reason} {http.edgerelay.message} {uri}"
	}
}
http://other.example:%d {
	bind 127.0.0.1
	edgerelay
}
`, url, access, port))
	for _, c := range []struct {
		name, path, header string
		status             int
		body               string
	}{
		{"not logged in", "/websocket/", "Cookie: a=b", 403, "page 403 not_logged_in not logged in /websocket/"},
		{
			"a foreign origin", "/websocket/", "Origin: https://evil.example", 403,
			"page 403 origin origin not allowed /websocket/",
		},
		{
			"no route for the status", "/websocket/", "Sec-WebSocket-Version: 8", 426,
			"only websocket version 13 is supported\n",
		},
	} {
		resp, body := shakeAt(t, url, c.path, c.header)
		if resp.StatusCode != c.status || body != c.body || !resp.Close {
			t.Errorf("%s: %d %q, close %v; want %d %q on a connection that ends", c.name, resp.StatusCode, body,
				resp.Close, c.status, c.body)
		}
	}
	for path, want := range map[string]string{
		"/console/":                       "not logged in; log in as an operator, then reload the page\n",
		"/console/tail?group=a&x=/../../": "not logged in; log in as an operator, then reload the page\n",
	} {
		if status, body := call(t, http.MethodGet, url+path, nil); status != 401 || body != want {
			t.Errorf("%s: %d %q, want 401 %q", path, status, body, want)
		}
	}
	testkit.Eventually(t, "the access log tells the reasons", func() error {
		text, err := os.ReadFile(access)
		for _, want := range []string{
			`"refused":"not_logged_in"`, `"refused":"origin"`, `"refused":"bad_handshake"`,
			`"status":426`,
		} {
			if err == nil && !strings.Contains(string(text), want) {
				err = fmt.Errorf("no %s in %s", want, text)
			}
		}
		return err
	})
	// A site without error routes beside one that has them.
	if resp, body := shakeAt(t, url, "/websocket/", "Host: other.example"); resp.StatusCode != 403 ||
		body != "not logged in\n" {
		t.Errorf("a site without error routes: %d %q", resp.StatusCode, body)
	}
	if strings.Contains(r.Log(), "superfluous") {
		t.Error("a response was written twice")
	}
}

// An error route with handlers of the relay does not run itself.
func TestErrorRoutesDoNotRunThemselves(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, doorSite("", "auth none", `edgerelay
	handle_errors {
		edgerelay
		respond "page {err.status_code}"
	}`))
	const text = "origin not allowed\n"
	if resp, body := shakeAt(t, r.URL, "/websocket/", "Origin: https://evil.example"); resp.StatusCode != 403 ||
		body != text {
		t.Errorf("%d %q, want 403 %q", resp.StatusCode, body, text)
	}
}

// A bad handshake is most often a proxy's doing: the log names the remedy.
func TestBadHandshakesAreLogged(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, doorSite("", "auth none", "edgerelay\nrespond next"))
	for _, c := range []struct {
		name, line string
		status     int
	}{
		{"no Connection", "Connection:", 400},
		{"no key", "Sec-WebSocket-Key:", 400},
		{"an old version", "Sec-WebSocket-Version: 8", 426},
		{"no Upgrade", "Upgrade:", 200},
		{"another path without Upgrade", "Upgrade:", 200},
	} {
		path := "/websocket/"
		if strings.HasPrefix(c.name, "another") {
			path = "/page/"
		}
		if resp, body := shakeAt(t, r.URL, path, c.line, "Cookie: x=y"); resp.StatusCode != c.status {
			t.Errorf("%s: %d %q, want %d", c.name, resp.StatusCode, body, c.status)
		}
	}
	w, err := wstest.DialWire(t, r.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(strings.Replace(w.Handshake("/websocket/"), "HTTP/1.1", "HTTP/1.0", 1)); err != nil {
		t.Fatal(err)
	}
	if resp, body, err := w.Response(); err != nil || resp.StatusCode != 426 {
		t.Errorf("HTTP/1.0: %v %q, %v", resp, body, err)
	}
	for want, times := range map[string]int{
		`"client rejected: invalid handshake"`:         4,
		`"handshake without Upgrade header passed on"`: 1,
		"pass the headers Upgrade and Connection on":   5,
		"a websocket handshake needs HTTP/1.1":         1,
	} {
		logs(t, r, want, times)
	}
}

// logs waits until the log says a text so many times.
func logs(t *testing.T, r *peers.Relay, text string, times int) {
	t.Helper()
	testkit.Eventually(t, "the log", func() error {
		if got := strings.Count(r.Log(), text); got != times {
			return fmt.Errorf("it says %q %d times, want %d", text, got, times)
		}
		return nil
	})
}

// Behind a Unix socket Caddy knows no addresses. Its clients are not one client then, and the log tells the remedy
// once.
func TestUnixSocketSites(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "site.sock")
	r := peers.StartRelay(t, doorSite("", "auth none\nlimits {\nconnections_per_address 2\n}", "respond ok")+
		"http://unix.example {\n\tbind unix/"+socket+"\n\tedgerelay\n}\n")
	knock := func(headers ...string) (status int) {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		w := wstest.Wire{Host: "unix.example"}
		if _, err := io.WriteString(conn, w.Handshake("/websocket/", headers...)); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, len("HTTP/1.1 101"))
		if _, err := io.ReadFull(conn, line); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Sscanf(string(line), "HTTP/1.1 %d", &status)
		return status
	}
	if got := knock("Origin: https://evil.example"); got != 403 {
		t.Fatalf("a foreign origin: %d", got)
	}
	logs(t, r, `"address":"unknown"`, 1)
	for i := range 5 {
		if got := knock(); got != 101 {
			t.Errorf("client %d of unknown address: %d, want 101", i, got)
		}
	}
	logs(t, r, "client addresses are unknown", 1)
	logs(t, r, "set trusted_proxies_unix", 1)
	testkit.Eventually(t, "five connections in the admin API", func() bool { // they are listed after the response 101
		var list struct {
			Connections []struct{ Address string }
		}
		if err := json.Unmarshal([]byte(fetch(t, r.Admin+"/edgerelay/connections")), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.Connections) == 5
	})
}

// Connections that send half a request, or none after the first, take no descriptor that the relay needs: honest
// handshakes, the health endpoint and the admin API answer.
func TestHalfOpenConnectionsTakeNoLastDescriptors(t *testing.T) {
	t.Parallel()
	const files, held, many = 512, 100, 520
	for _, c := range []struct{ name, request string }{
		{"half a header", "GET /websocket/ HTTP/1.1\r\nHost: h\r\nUpgrade: webso"},
		{"nothing", ""},
		{"kept alive after one request", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := peers.StartRelayUnder(t, doorSite("", "auth none", "edgerelay\nedgerelay_health\nrespond ok"),
				"prlimit", fmt.Sprintf("--nofile=%d:%d", files, files))
			address := strings.TrimPrefix(r.URL, "http://")
			for range held {
				shakeAt(t, r.URL, "/websocket/")
			}
			for range many {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				if _, err := io.WriteString(conn, c.request); err != nil {
					t.Logf("closed already: %v", err)
				}
			}
			client := http.Client{Timeout: patience / 3, Transport: &http.Transport{DisableKeepAlives: true}}
			testkit.Eventually(t, "connections that have had a second to make room", func() error {
				if resp, body := shakeAt(t, r.URL, "/websocket/"); resp.StatusCode != http.StatusSwitchingProtocols {
					return fmt.Errorf("%d %q", resp.StatusCode, body)
				}
				return nil
			})
			for range 10 {
				for _, url := range []string{r.URL + "/health", r.Admin + "/edgerelay/status"} {
					resp, err := client.Get(url)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Errorf("%s: %s", url, resp.Status)
					}
				}
				if resp, body := shakeAt(t, r.URL, "/websocket/"); resp.StatusCode != http.StatusSwitchingProtocols {
					t.Errorf("an honest handshake: %d %q", resp.StatusCode, body)
				}
			}
			if strings.Contains(r.Log(), "too many open files") {
				t.Error("the relay had no descriptors left")
			}
			if !strings.Contains(r.Log(), "file descriptors scarce") {
				t.Error("the log does not say that descriptors are scarce")
			}
			if strings.Contains(fetch(t, r.Admin+"/metrics"),
				`edgerelay_connections_ended_total{reason="no_request"} 0`) {
				t.Error("the closed connections are not counted")
			}
		})
	}
}
