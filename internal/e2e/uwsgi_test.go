package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
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
				req, err := http.NewRequest(http.MethodPost, r.URL+"/", io.MultiReader(strings.NewReader(strings.Repeat("a", size))))
				if err != nil {
					t.Fatal(err)
				}
				e := environOf(t, req)
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

// No POST fails: there is no connection that uWSGI could close while a request is on its way.
func TestUWSGIPosts(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 5)
	r := peers.StartRelay(t, uwsgiSite(uwsgi.Socket))
	var failed atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 250 {
				resp, err := http.Post(r.URL+"/post", "text/plain", bytes.NewReader(bytes.Repeat([]byte("a"), 100)))
				if err != nil {
					failed.Add(1)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || string(body) != "100\n" {
					failed.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of 2,000 POSTs failed", n)
	}
}
