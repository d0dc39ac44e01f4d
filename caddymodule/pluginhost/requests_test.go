package pluginhost

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/plugins"
)

// sharedStore is a shared store of several nodes.
type sharedStore struct {
	mu     sync.Mutex
	values map[string]string
	status int32 // of all requests, if not 0
	lost   bool  // requests with that status take effect nevertheless: their responses are lost
	asked  int
	failed int // requests with that status
}

func (s *sharedStore) Start(r *plugins.Request, done func(plugins.Response)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Plugin + "\x00" + r.Key
	s.asked++
	if s.status != 0 {
		s.failed++
		answer := done
		done = func(plugins.Response) { answer(plugins.Response{Status: s.status}) }
		if !s.lost {
			done(plugins.Response{})
			return
		}
	}
	switch old := s.values[key]; {
	case old != string(r.Expected):
		done(plugins.Response{Status: plugins.StatusConflict, Body: []byte(old)})
	case len(r.Value) == 0:
		delete(s.values, key)
		done(plugins.Response{})
	default:
		s.values[key] = string(r.Value)
		done(plugins.Response{})
	}
}

// expire ends all claims, as if their time had come.
func (s *sharedStore) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.values)
}

// requesting is a node whose plugin may make requests to a server.
func requesting(t *testing.T, server *httptest.Server, store *sharedStore) *site {
	t.Helper()
	s := newSite(t)
	s.write(module(t, "one1"))
	s.plugin.Fetch = &Fetch{Addresses: []string{server.URL}, Private: []string{"127.0.0.1"}}
	s.start()
	if store != nil {
		s.UseServices(func(v *plugins.Services) { v.Shared = store })
	}
	return s
}

// begin makes a request in the plugin's name.
func (s *site) begin(request map[string]any, body string) <-chan plugins.Response {
	s.t.Helper()
	key, err := json.Marshal(request)
	if err != nil {
		s.t.Fatal(err)
	}
	end := make(chan plugins.Response, 1)
	s.requests.Start(&plugins.Request{Plugin: "p", Op: plugins.HTTPFetch, Key: string(key), Value: []byte(body)},
		func(r plugins.Response) { end <- r })
	return end
}

func (s *site) answered(end <-chan plugins.Response, status int32, body string) {
	s.t.Helper()
	select {
	case r := <-end:
		if r.Status != status || !strings.Contains(string(r.Body), body) {
			s.t.Errorf("status %d, body %q; want %d, %q", r.Status, r.Body, status, body)
		}
	case <-time.After(20 * time.Second):
		s.t.Fatal("the request has no end")
	}
}

func TestRequestsOfPlugins(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte(r.Method+" "), body...))
	}))
	defer server.Close()
	s := requesting(t, server, nil)
	s.answered(s.begin(map[string]any{"url": server.URL}, "hello"), 200, "POST hello")
	s.answered(s.begin(map[string]any{"url": "https://example.com"}, ""), plugins.StatusDenied, "not granted")
	s.answered(s.begin(map[string]any{"uri": server.URL}, ""), plugins.StatusInvalid, "JSON object")
	s.answered(s.begin(map[string]any{"url": server.URL, "once": "a"}, ""), plugins.StatusUnavailable, "shared store")
	stats := s.Fetches()["p"]
	if stats.Results[1] != 1 || stats.Results[5] != 1 || stats.InFlight != 0 {
		t.Errorf("%+v", stats)
	}

	// A deployment may bring settings of its own, and a reload takes them back.
	one := module(t, "two2")
	s.deploy(one, Change{Settings: []byte(`{"fetch": {"addresses": ["` + server.URL + `"], "private": ["127.0.0.0/8"], "methods": ["GET"]}}`)})
	s.answered(s.begin(map[string]any{"url": server.URL}, "hello"), plugins.StatusDenied, "method POST")
	s.answered(s.begin(map[string]any{"url": server.URL}, ""), 200, "GET")
	if err := s.reload(func(p *Plugin) { p.Shadow = true }); err != nil {
		t.Fatal(err)
	}
	s.answered(s.begin(map[string]any{"url": server.URL}, ""), plugins.StatusDenied, "shadow")
	if err := s.reload(func(p *Plugin) { p.Name = "q"; p.Shadow = false }); err != nil {
		t.Fatal(err)
	}
	s.answered(s.begin(map[string]any{"url": server.URL}, ""), plugins.StatusUnavailable, "removed")
	if _, left := s.Fetches()["p"]; left {
		t.Error("the removed plugin's client is left")
	}
}

func TestSecretsInHostsAreConcealed(t *testing.T) {
	var lines bytes.Buffer
	s := newSite(t)
	t.Setenv("PLUGIN_TOKEN", "HunterTwo")
	s.write(module(t, "one1"))
	s.plugin.Config = json.RawMessage(`{"token": "{env.PLUGIN_TOKEN}"}`)
	s.plugin.Fetch = &Fetch{Addresses: []string{"https://*.example.com"}}
	s.start()
	s.requests.log = slog.New(slog.NewTextHandler(&lines, nil))
	s.answered(s.begin(map[string]any{"url": "https://huntertwo.example.net/HunterTwo?HunterTwo"}, "HunterTwo"), plugins.StatusDenied, "")
	if text := lines.String(); strings.Contains(strings.ToLower(text), "huntertwo") || !strings.Contains(text, "example.net") {
		t.Error(text)
	}
}

func TestOneNodeMakesTheRequest(t *testing.T) {
	var count atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { count.Add(1) }))
	defer server.Close()
	store := &sharedStore{values: map[string]string{}}
	a, b := requesting(t, server, store), requesting(t, server, store)
	request := map[string]any{"url": server.URL, "once": "job 7 failed"}
	statuses := map[int32]int{}
	var ends []<-chan plugins.Response
	for range 5 {
		ends = append(ends, a.begin(request, "x"), b.begin(request, "x"))
	}
	for _, end := range ends {
		r := <-end
		statuses[r.Status]++
	}
	if count.Load() != 1 || statuses[200] != 1 || statuses[plugins.StatusConflict] != 9 {
		t.Errorf("%d requests, statuses %v", count.Load(), statuses)
	}
	if n := a.Fetches()["p"].Claimed + b.Fetches()["p"].Claimed; n != 9 {
		t.Errorf("%d requests counted as made before, want 9", n)
	}
	request["once"] = "job 8 failed"
	a.answered(a.begin(request, "x"), 200, "")
	store.status = plugins.StatusUnavailable
	a.answered(a.begin(request, "x"), plugins.StatusUnavailable, "shared store")
}

// A node whose request fails, or that dies with it, leaves the request to another.
func TestAnotherNodeTakesOver(t *testing.T) {
	var mu sync.Mutex
	status, arrived, hold := 503, make(chan struct{}, 8), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if r.URL.Path == "/hold" {
			<-hold
			return
		}
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
		status = 200
	}))
	defer server.Close()
	defer close(hold)
	store := &sharedStore{values: map[string]string{}}
	a, b, c := requesting(t, server, store), requesting(t, server, store), requesting(t, server, store)
	request := map[string]any{"url": server.URL, "once": "1"}
	a.answered(a.begin(request, "x"), 503, "")
	b.answered(b.begin(request, "x"), 200, "")
	a.answered(a.begin(request, "x"), plugins.StatusConflict, "has been made")

	for range 2 {
		<-arrived
	}
	request = map[string]any{"url": server.URL + "/hold", "once": "2"}
	stuck := a.begin(request, "x")
	<-arrived
	request["url"] = server.URL
	end := b.begin(request, "x")
	last := c.begin(request, "x")
	_ = a.Host.Close() // in order: the claim is given back
	a.answered(stuck, plugins.StatusUnavailable, "stopping")
	first, second := <-end, <-last
	if first.Status+second.Status != 200+plugins.StatusConflict {
		t.Errorf("statuses %d and %d", first.Status, second.Status)
	}
	a.Host = nil

	request = map[string]any{"url": server.URL + "/hold", "once": "3"}
	_ = b.begin(request, "x")
	<-arrived
	<-arrived
	request["url"] = server.URL
	end = c.begin(request, "x")
	store.expire() // b is dead: its claim ends by itself
	c.answered(end, 200, "")
}

// The shared store fails while a node waits for another one, which has died with its claim. The node takes over once
// the store is back, also if the store has carried out a request of which the node has no response.
func TestAnotherNodeTakesOverAfterTheStoreFailed(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost=%v", lost), func(t *testing.T) { takeOverAfterFailure(t, lost) })
	}
}

func takeOverAfterFailure(t *testing.T, lost bool) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	sum := sha256.Sum256([]byte("4"))
	key := "p\x00" + oncePrefix + hex.EncodeToString(sum[:16])
	store := &sharedStore{values: map[string]string{key: oncePending + "of a dead node"}, lost: lost}
	a := requesting(t, server, store)
	end := a.begin(map[string]any{"url": server.URL, "once": "4"}, "x")
	set := func(status int32, failed int) {
		t.Helper()
		testkit.Eventually(t, "the node to ask the store", func() error {
			store.mu.Lock()
			defer store.mu.Unlock()
			if store.failed < failed || store.asked == 0 {
				return fmt.Errorf("asked %d times, failed %d times", store.asked, store.failed)
			}
			store.status = status
			return nil
		})
	}
	set(plugins.StatusUnavailable, 0)
	store.expire()
	set(0, 2)
	a.answered(end, 200, "")
	store.mu.Lock()
	defer store.mu.Unlock()
	if store.values[key] != onceDone {
		t.Errorf("the claim is %q", store.values[key])
	}
}

func TestReadFetch(t *testing.T) {
	read := func(text string) (*Plugin, error) {
		d := caddyfile.NewTestDispenser(text)
		d.Next()
		p := &Plugin{}
		if err := p.ReadBlock(d); err != nil {
			return nil, err
		}
		return p, p.provision()
	}
	p, err := read(`plugin p p.wasm {
		groups jobs-*
		watch jobs-status_changed
		fetch https://hooks.slack.com https://*.example.com {
			methods POST
			headers X-Api-Key
			private 10.0.0.0/8 fd00::1
			max_request 1KiB
			max_response 2KiB
			timeout 5s
			in_flight 2
			rate 0.5
			once_for 1d
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	if f := p.Fetch; len(f.Addresses) != 2 || f.Rate != 0.5 || f.Timeout != caddy.Duration(5*time.Second) ||
		len(p.requests.Private) != 2 || p.spec.Grants[0] != plugins.GrantFetch || p.Watch[0] != "jobs-status_changed" {
		t.Errorf("%+v, %v", f, p.spec.Grants)
	}
	for block, want := range map[string]string{
		"fetch":                                  "at least one address",
		"fetch hooks.slack.com":                  "invalid address",
		"fetch https://hooks.slack.com/services": "path",
		"fetch https://a.example.com {\nprivate intranet\n}": "invalid private network",
		"fetch https://a.example.com {\nheaders Host\n}":     "cannot be granted",
		"fetch https://a.example.com {\nonce_for 100d\n}":    "once_for",
		"fetch https://a.example.com {\nbody 3\n}":           "no setting",
		"grant fetch":  "names no addresses",
		"watch jobs-*": "pattern",
		"watch other":  "not among",
		"watch a/b":    "not a group's name",
	} {
		if _, err := read("plugin p p.wasm {\ngroups jobs-*\n" + block + "\n}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", block, err, want)
		}
	}
}

// A watched group has a member from the installation of the plugin until its end, also without clients.
func TestWatch(t *testing.T) {
	s := newSite(t)
	s.write(module(t, "one1"))
	joined := func(group string) bool {
		s.sourcesMu.Lock()
		defer s.sourcesMu.Unlock()
		return s.watched[group] != nil && slices.Contains(s.hub.Interested(), group)
	}
	s.plugin.Watch = []string{"g-1"}
	s.start()
	if !joined("g-1") || joined("g-2") {
		t.Error("the group is not watched")
	}
	if err := s.reload(func(p *Plugin) { p.Watch = []string{"g-2"} }); err != nil {
		t.Fatal(err)
	}
	if joined("g-1") || !joined("g-2") {
		t.Error("after a reload, the former group is watched")
	}
	s.deploy(module(t, "two2"), Change{Settings: []byte(`{"watch": ["g-1"]}`)})
	if !joined("g-1") || joined("g-2") {
		t.Error("the watch of a deployment has no effect")
	}
}
