package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// examples/django/Caddyfile: a view of the site says who the browser is, and nothing that a browser sends itself does.
func TestForwardAuth(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie("sessionid")
		if r.URL.Path == "/whoami/" && (err != nil || cookie.Value != "of-alice") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-User", "alice")
	}))
	defer site.Close()
	redis := peers.StartRedis(t)
	text, err := os.ReadFile(filepath.Join(peers.Root(t), "examples", "django", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer(
		"{\n\tedgerelay {", "{\n\tadmin {$ADMIN}\n\tedgerelay {",
		"shop.example.com", "{$SITE}",
		"127.0.0.1:8000", strings.TrimPrefix(site.URL, "http://"),
		"redis://127.0.0.1:6379/0", redis.URL,
	).Replace(string(text))
	r := peers.StartRelay(t, config)

	alice := http.Header{"Cookie": {"sessionid=of-alice; csrftoken=x"}}
	client, _, err := peers.Dial(t, r.URL+"/websocket/", alice)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := client.Next(10 * time.Second)
	if want := `{"accept": true, "user": "alice"}`; err != nil || frame != want {
		t.Errorf("first frame %s (%v), want %s", frame, err, want)
	}
	for name, header := range map[string]http.Header{
		"nobody":          {},
		"a made-up user":  {"X-User": {"alice"}},
		"another session": {"Cookie": {"sessionid=of-bob"}, "X-User": {"alice"}},
	} {
		_, resp, err := peers.Dial(t, r.URL+"/websocket/", header)
		if err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %v, %v; want 401", name, resp, err)
		}
	}
}
