package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// djangoSite is examples/django/Caddyfile in front of a site with two users, alice, who is an operator, and bob. Its
// view answers as in docs/forward-auth.md: 200 in any case, and with X-User if a user is logged in.
func djangoSite(t *testing.T) (*peers.Relay, string) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/whoami/" {
			fmt.Fprint(w, "django "+r.URL.Path)
			return
		}
		if cookie, err := r.Cookie("sessionid"); err == nil && strings.HasPrefix(cookie.Value, "of-") {
			w.Header().Set("X-User", strings.TrimPrefix(cookie.Value, "of-"))
		}
	}))
	t.Cleanup(site.Close)
	redis := peers.StartRedis(t)
	text, err := os.ReadFile(filepath.Join(peers.Root(t), "examples", "django", "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer(
		"{\n\tedgerelay {", "{\n\tadmin {$ADMIN}\n\tpersist_config off\n\tedgerelay {",
		"shop.example.com", "{$SITE}",
		"127.0.0.1:8000", strings.TrimPrefix(site.URL, "http://"),
		"redis://127.0.0.1:6379/0", redis.URL,
		"operators 1", "operators alice",
	).Replace(string(text))
	return peers.StartRelay(t, config), config
}

// visitor is who sends a request, and who the site takes it for.
type visitor struct {
	name   string
	header http.Header
	user   string // empty: no user
}

// visitors are users, and people who say themselves who they are.
func visitors() []visitor {
	list := []visitor{
		{"nobody", http.Header{}, ""},
		{"alice", http.Header{"Cookie": {"sessionid=of-alice; csrftoken=t"}}, "alice"},
		{"bob", http.Header{"Cookie": {"sessionid=of-bob; csrftoken=t"}}, "bob"},
		{"a login that is none", http.Header{"Cookie": {"sessionid=alice; csrftoken=t"}}, ""},
	}
	for name, forged := range map[string]http.Header{
		"a forged header":            {"X-User": {"alice"}},
		"two forged headers":         {"X-User": {"alice", "alice"}},
		"a forged header, other way": {"x-user": {"alice"}},
		"with an underscore":         {"X_User": {"alice"}},
		"as a hop's own header":      {"X-User": {"alice"}, "Connection": {"X-User"}},
		"what Caddy names it": {
			"Http.auth.user.id": {"alice"}, "Remote-User": {"alice"},
			"X-Forwarded-User": {"alice"},
		},
	} {
		for _, v := range list[:3] {
			if v.user == "alice" {
				continue
			}
			header := v.header.Clone()
			for k, values := range forged {
				header[k] = values
			}
			list = append(list, visitor{v.name + " with " + name, header, v.user})
		}
	}
	return list
}

// examples/django/Caddyfile: a view of the site says who the browser is, and nothing that a browser sends itself does.
// Each directive of the module has to show that.
func TestForgedUsersReachNoDirective(t *testing.T) {
	r, config := djangoSite(t)
	config = strings.Replace(config, "\tedgerelay_health\n", "\tedgerelay_health\n\tedgerelay_publish /publish {\n"+
		"\t\tkey shop "+strings.Repeat("k", 32)+" {\n\t\t\tgroups *\n\t\t}\n\t}\n", 1)
	if err := r.Load(config); err != nil {
		t.Fatal(err)
	}
	publishHTTP(t, r, "orders-17", `{"secret": 1}`)
	directives := map[string]func(t *testing.T, v visitor){
		"edgerelay": func(t *testing.T, v visitor) {
			for _, path := range []string{"/websocket/", "/websocket", "/shop/websocket/"} {
				header := v.header.Clone()
				header.Del("Connection") // is the handshake's
				client, _, err := wstest.Dial(t, r.URL+path, header)
				if err != nil {
					t.Fatal(err)
				}
				want := fmt.Sprintf(`{"accept": true, "user": %q}`, v.user)
				if v.user == "" {
					want = `{"close": true}`
				}
				if frame, err := client.Next(patience); err != nil || frame != want {
					t.Errorf("%s: first frame %s (%v), want %s", path, frame, err, want)
				}
				if v.user == "" { // so that a browser does not try again
					if _, err := client.Next(patience); wstest.CloseCode(err) != 1000 {
						t.Errorf("%s: closed with %v, want 1000", path, err)
					}
				}
			}
		},
		"edgerelay_console": func(t *testing.T, v visitor) {
			want := map[string]int{
				"": http.StatusUnauthorized, "bob": http.StatusForbidden,
				"alice": http.StatusOK,
			}[v.user]
			for _, path := range []string{"/edgerelay/", "/edgerelay/overview", "/edgerelay/tail?group=orders-17"} {
				if status, body := visit(t, r.URL+path, v.header); status != want {
					t.Errorf("%s: %d %.80q, want %d", path, status, body, want)
				}
			}
			// are not its own
			for _, path := range []string{"//edgerelay/overview", "/x/../edgerelay/overview", "/EDGERELAY/overview"} {
				if _, body := visit(t, r.URL+path, v.header); body != "" && !strings.HasPrefix(body, "django") {
					t.Errorf("%s: %.80q", path, body)
				}
			}
		},
		"edgerelay_health": func(t *testing.T, v visitor) {
			if status, body := visit(t, r.URL+"/health", v.header); status != http.StatusOK ||
				strings.Contains(body, "alice") {
				t.Errorf("%d %q, want 200 and nothing about users", status, body)
			}
		},
		"edgerelay_publish": func(t *testing.T, v visitor) {
			req, err := http.NewRequest(http.MethodPost, r.URL+"/publish", strings.NewReader(`{"group": "orders-17", "text": "x"}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = v.header.Clone()
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s, want 401 for a request without a key", resp.Status)
			}
		},
		"edgerelay_demo": func(t *testing.T, v visitor) {
			if status, body := visit(t, r.URL+"/", v.header); status != http.StatusOK || body != "django /" {
				t.Errorf("%d %q, want Django's page", status, body)
			}
		},
	}
	list, err := r.Command("list-modules").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(list)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "http.handlers.edgerelay")
		if !ok {
			continue
		}
		name = "edgerelay" + name
		check := directives[name]
		if check == nil {
			t.Errorf("the directive %s has no case here: show that a forged header does not reach it", name)
			continue
		}
		found++
		t.Run(name, func(t *testing.T) {
			for _, v := range visitors() {
				t.Run(v.name, func(t *testing.T) {
					t.Parallel()
					check(t, v)
				})
			}
		})
	}
	if found != len(directives) {
		t.Errorf("the binary has %d of the %d directives that have a case here:\n%s", found, len(directives), list)
	}
	// The demo page lets everybody publish: no login allows it.
	err = r.Load(strings.Replace(config, "\tedgerelay_health\n", "\tedgerelay_health\n\tedgerelay_demo\n", 1))
	if err == nil || !strings.Contains(err.Error(), "use auth none") {
		t.Errorf("edgerelay_demo beside auth caddy: %v, want a refusal", err)
	}
}

// visit asks for a page with exactly these headers.
func visit(t *testing.T, url string, header http.Header) (status int, body string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	req.Close = true
	resp, err := http.DefaultClient.Transport.RoundTrip(req) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
