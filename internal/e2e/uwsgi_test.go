package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// uwsgiSite is a Caddyfile whose one site passes everything to an upstream by transport uwsgi with some settings.
func uwsgiSite(upstream string, settings ...string) string {
	return "{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n\treverse_proxy " + upstream + " {\n\t\ttransport uwsgi {\n\t\t\t" +
		strings.Join(settings, "\n\t\t\t") + "\n\t\t}\n\t}\n}\n"
}

// uwsgiEnviron is what the application is told of a request.
type uwsgiEnviron map[string]any

func (e uwsgiEnviron) get(name string) string {
	text, _ := e[name].(string)
	return text
}

func environOf(t *testing.T, req *http.Request) uwsgiEnviron {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var e uwsgiEnviron
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	return e
}

// A body without a length arrives whole, and with its length.
func TestUWSGIChunkedBody(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 2)
	for name, upstream := range map[string]string{"tcp": uwsgi.Socket, "unix": "unix/" + uwsgi.Unix} {
		t.Run(name, func(t *testing.T) {
			r := peers.StartRelay(t, uwsgiSite(upstream))
			for _, size := range []int{0, 1, 27, 64<<10 - 1, 64 << 10, 64<<10 + 1, 3_000_000} {
				body := io.MultiReader(strings.NewReader(strings.Repeat("a", size)))
				e := environOf(t, newRequest(t, http.MethodPost, r.URL+"/", body))
				if got := e.get("CONTENT_LENGTH"); got != strconv.Itoa(size) {
					t.Errorf("%d bytes: CONTENT_LENGTH is %q", size, got)
				}
				if got := e["body"].([]any)[0]; got != float64(size) {
					t.Errorf("%d bytes: %v arrived", size, got)
				}
			}
		})
	}
}

// No POST fails: there is no connection that uWSGI could close while a request is on its way. UWSGI_POSTS sets how
// many of each kind are sent in place of 2,000.
func TestUWSGIPosts(t *testing.T) {
	t.Parallel()
	total := 2000
	if given, err := strconv.Atoi(os.Getenv("UWSGI_POSTS")); err == nil {
		total = given
	}
	uwsgi := peers.StartUWSGI(t, 5)
	r := peers.StartRelay(t, uwsgiSite(uwsgi.Socket))
	for name, c := range map[string]struct {
		clients int
		pause   time.Duration // on average
	}{
		"8 at once":           {8, 0},
		"one after the other": {1, 0},
		"at random intervals": {4, 3 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			var failed atomic.Int64
			var clients sync.WaitGroup
			for range c.clients {
				clients.Go(func() {
					for range total / c.clients {
						if c.pause > 0 {
							time.Sleep(time.Duration(rand.ExpFloat64() * float64(c.pause))) // the load, not a wait
						}
						if err := post(r.URL); err != nil {
							failed.Add(1)
						}
					}
				})
			}
			clients.Wait()
			if n := failed.Load(); n > 0 {
				t.Errorf("%s: %d of %d POSTs failed", name, n, total)
			}
		})
	}
}

func post(url string) error {
	resp, err := http.Post(url+"/post", "text/plain", strings.NewReader(strings.Repeat("a", 100)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(body) != "100\n") {
		err = fmt.Errorf("%s: %q", resp.Status, body)
	}
	return err
}

// Three dribbling uploads and three slow readers of a large answer do not delay others, although there are three
// workers.
func TestUWSGISlowClients(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 3)
	for name, upstream := range map[string]string{"tcp": uwsgi.Socket, "unix": "unix/" + uwsgi.Unix} {
		t.Run(name, func(t *testing.T) {
			r := peers.StartRelay(t, uwsgiSite(upstream))
			for range 3 {
				conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				head := "POST /post HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
				if _, err := io.WriteString(conn, head+strings.Repeat("a", 20_000)); err != nil {
					t.Fatal(err)
				}
			}
			slow := []net.Conn{}
			for range 3 {
				slow = append(slow, readSlowly(t, r, "/large?20000000"))
			}
			for range 6 {
				if err := post(r.URL); err != nil {
					t.Error(err)
				}
			}
			for _, conn := range slow {
				if n, err := io.Copy(io.Discard, conn); n < 20_000_000 || err != nil {
					t.Errorf("%d bytes (%v)", n, err)
				}
			}
		})
	}
}

// A worker that is killed in mid-request costs that request, which is executed once.
func TestUWSGIKilledWorker(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 3)
	r := peers.StartRelay(t, `{
	admin {$ADMIN}
}
{$SITE} {
	reverse_proxy `+uwsgi.Socket+" unix/"+uwsgi.Unix+` {
		lb_retries 5
		lb_try_duration 3s
		lb_try_interval 10ms
		transport uwsgi
	}
}
`)
	want := []string{}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for range 3 {
			want = append(want, "/die?before")
			if status, _, err := once(newRequest(t, method, r.URL+"/die?before", nil)); status != 502 || err != nil {
				t.Errorf("%s, killed before the answer: %d (%v)", method, status, err)
			}
			want = append(want, "/die?after")
			if status, body, err := once(newRequest(t, method, r.URL+"/die?after", nil)); status != 200 || err == nil {
				t.Errorf("%s, killed within the answer: %d, %d bytes, complete", method, status, len(body))
			}
		}
	}
	if got := uwsgi.Executed(t); !slices.Equal(got, want) {
		t.Errorf("executed: %q, want %q", got, want)
	}
	if err := post(r.URL); err != nil {
		t.Error(err)
	}
}

// A client that leaves frees the only worker.
func TestUWSGIAbandonedWorker(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 1)
	r := peers.StartRelay(t, uwsgiSite(uwsgi.Socket))
	conn := readSlowly(t, r, "/hang")
	if _, err := conn.Read(make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := post(r.URL); err != nil {
		t.Error(err)
	}
	if got := uwsgi.Executed(t); !slices.Equal(got, []string{"/hang?"}) {
		t.Errorf("the worker notes %q", got)
	}
}

// Lengths that are wrong: a client must not take half an answer for a whole one.
func TestUWSGILengthLies(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 2)
	r := peers.StartRelay(t, uwsgiSite(uwsgi.Socket))
	for _, c := range []struct {
		announced, sent string
		want            int // -1: an error
	}{
		{"100", "100", 100}, {"100", "99", -1}, {"200000", "199999", -1}, {"100", "101", 100}, {
			"100", "200000",
			100,
		}, {"", "100000", 100_000}, {"0", "0", 0},
	} {
		_, body, err := once(newRequest(t, http.MethodGet, r.URL+"/lie?"+c.announced+","+c.sent, nil))
		if (err != nil) != (c.want < 0) || err == nil && len(body) != c.want {
			t.Errorf("%s bytes announced, %s sent: got %d (%v)", c.announced, c.sent, len(body), err)
		}
	}
}

// An application that does not read a large body is heard.
func TestUWSGIUnreadBody(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 2)
	for name, upstream := range map[string]string{"tcp": uwsgi.Socket, "unix": "unix/" + uwsgi.Unix} {
		r := peers.StartRelay(t, uwsgiSite(upstream))
		for range 20 {
			body := strings.NewReader(strings.Repeat("x", 1_000_000))
			status, answer, err := once(newRequest(t, http.MethodPost, r.URL+"/unread", body))
			if status != http.StatusOK || answer != "unread\n" || err != nil {
				t.Errorf("%s: got %d %q (%v)", name, status, answer, err)
			}
		}
	}
}

// Variables that do not fit: the packet's bound is answered with 431, uWSGI's own with a 502 whose log line names
// the setting.
func TestUWSGILargeHeaders(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 2)
	site := uwsgiSite(uwsgi.Socket)
	// Caddy's own limit is lower.
	r := peers.StartRelay(t, strings.Replace(site, "admin {$ADMIN}\n",
		"admin {$ADMIN}\n\tservers {\n\t\tmax_header_size 1MB\n\t}\n", 1))
	for size, want := range map[int]int{30_000: 200, 40_000: 502, 65_500: 431, 200_000: 431} {
		req := newRequest(t, http.MethodGet, r.URL+"/", nil)
		req.Header.Set("X-Large", strings.Repeat("x", size))
		if status, _, err := once(req); status != want || err != nil {
			t.Errorf("%d bytes: %d (%v), want %d", size, status, err, want)
		}
	}
	testkit.Eventually(t, "a log line names the setting", func() error {
		if !strings.Contains(r.Log(), "raise its buffer-size") {
			return errors.New("not yet")
		}
		return nil
	})
}

// Behind a trusted proxy the application sees the client; any other client cannot pose as a proxy.
func TestUWSGITrustedProxies(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 2)
	for name, c := range map[string]struct {
		option string
		want   uwsgiEnviron
	}{
		"trusted": {"trusted_proxies static 127.0.0.1/32", uwsgiEnviron{
			"REMOTE_ADDR": "192.0.2.9", "REMOTE_PORT": "", "HTTPS": "on", "REQUEST_SCHEME": "https",
			"wsgi.url_scheme": "https", "SERVER_PORT": "443",
		}},
		"others": {"trusted_proxies static 10.0.0.0/8", uwsgiEnviron{
			"REMOTE_ADDR": "127.0.0.1", "REQUEST_SCHEME": "http", "wsgi.url_scheme": "http",
			"HTTP_X_FORWARDED_PROTO": "http",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := peers.StartRelay(t, "{\n\tadmin {$ADMIN}\n\tservers {\n\t\t"+c.option+"\n\t}\n}\n"+
				"{$SITE} {\n\treverse_proxy "+uwsgi.Socket+
				" {\n\t\ttransport uwsgi\n\t}\n}\n")
			req := newRequest(t, http.MethodGet, r.URL+"/", nil)
			req.Header = http.Header{
				"X-Forwarded-For": {"192.0.2.9"}, "X-Forwarded-Proto": {"https"},
				"X-Forwarded-Ssl": {"on"},
			}
			req.Host = "127.0.0.1" // a proxy's clients use its ports
			got := environOf(t, req)
			for key, value := range c.want {
				if got[key] != value {
					t.Errorf("%s is %v, want %v", key, got[key], value)
				}
			}
			if name == "others" && got["HTTPS"] != nil {
				t.Errorf("HTTPS is %v", got["HTTPS"])
			}
		})
	}
}

// A body without a length comes over HTTP/2, too.
func TestUWSGIOverHTTP2(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 2)
	f := startFront(t, uwsgi.Socket, peers.MakeCertificates(t))
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	url := "https://localhost:" + strconv.Itoa(f.secure) + "/"
	resp, err := transport.RoundTrip(newRequest(t, http.MethodPut, url,
		io.MultiReader(strings.NewReader(strings.Repeat("x", 200_000)))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e uwsgiEnviron
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != 2 || e.get("SERVER_PROTOCOL") != "HTTP/2.0" ||
		e.get("CONTENT_LENGTH") != "200000" || e["body"].([]any)[0] != 200_000.0 {
		t.Errorf("%s: the application is told %v", resp.Proto, e)
	}
}
