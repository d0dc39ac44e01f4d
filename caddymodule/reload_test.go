package caddymodule

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

func TestReload(t *testing.T) {
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay")
	open := s.subscribe("jobs-summary")
	stays := func(when string) {
		t.Helper()
		data := fmt.Sprintf("%q", when)
		if status, body := s.post("/edgerelay/publish", `{"group": "jobs-summary", "data": `+data+`}`); status != 200 {
			t.Errorf("%s: publish: %d %s", when, status, body)
		}
		next(t, open, data)
	}
	limit := func(when string, want int) {
		t.Helper()
		if got := node.Current().Hub.Limits().GroupsPerConnection; got != want {
			t.Errorf("%s: at most %d groups, want %d", when, got, want)
		}
	}
	stays("at first")
	limit("at first", 100)

	s.mustLoad("auth none\nlimits {\ngroups_per_connection 1\n}", "edgerelay")
	stays("after a reload")
	limit("after a reload", 1)
	if err := open.Send(`{"groups": {"jobs": ["summary", "x"]}, "xrftoken": "t"}`); err != nil {
		t.Fatal(err)
	}
	next(t, open, `{"error": "too many groups: 2 wanted, at most 1 a connection"}`)

	// What is refused changes nothing, wherever it fails: in adapting, in provisioning, in another module, in starting.
	busy := httptest.NewServer(http.NotFoundHandler())
	defer busy.Close()
	const other = "auth caddy\nlimits {\ngroups_per_connection 7\n}\nchannel_layer redis redis://127.0.0.1:1\n"
	broker := node.Current().Hub.Broker()
	for name, file := range map[string]string{
		"adapting":       s.file(other+"\nnonsense", "edgerelay"),
		"provisioning":   s.file(other+"\nunauthenticated nonsense", "edgerelay"),
		"another module": s.file(other, "edgerelay\nreverse_proxy {\nto http://a https://b\n}"),
		"starting":       s.file("auth caddy\nlimits {\ngroups_per_connection 7\n}", "edgerelay") + busy.URL + " {\nbind 127.0.0.1\nrespond x\n}\n",
	} {
		for range 3 { // apps start in random order
			if err := s.load(file); err == nil {
				t.Fatalf("%s: the configuration was taken", name)
			}
			limit("refused in "+name, 1)
			if name := fmt.Sprintf("%T", node.Current().Hub.Authorizer()); name == "auth.caddyAuthorizer" {
				t.Errorf("refused in %s: the authorizer is in force", name)
			}
			if node.Current().Hub.Broker() != broker {
				t.Errorf("refused in %s: the channel layer was changed", name)
			}
			stays("refused in " + name)
		}
	}

	// Validation builds the whole configuration, and touches nothing.
	if err := validate(strings.Replace(s.file(other, "edgerelay"), "admin "+s.admin, "admin off", 1)); err != nil {
		t.Fatal(err)
	}
	limit("after a validation", 1)
	stays("after a validation")

	// Another layer: the groups move.
	redis := peers.StartRedis(t)
	s.mustLoad("auth none\nchannel_layer redis "+redis.URL, "edgerelay")
	stays("on Redis")
	if n := redis.Do("ZCARD", "asgi:group:jobs-summary"); n != int64(1) {
		t.Errorf("%v members in Redis, want 1", n)
	}
	second := peers.StartRedis(t)
	s.mustLoad("auth none\nchannel_layer redis "+second.URL, "edgerelay")
	stays("on another Redis")
	if keys := redis.Do("KEYS", "*").([]any); len(keys) > 0 {
		t.Errorf("left behind in the former Redis: %v", keys)
	}
	s.mustLoad("auth none", "edgerelay")
	stays("in memory again")
	if keys := second.Do("KEYS", "*").([]any); len(keys) > 0 {
		t.Errorf("left behind in the former Redis: %v", keys)
	}
}

// While a reload waits for its channel layer, clients that come are served.
func TestClientsDuringAReload(t *testing.T) {
	me := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"results": [{"id": 1}]}`)
	}))
	defer me.Close()
	s := newSite(t)
	s.mustLoad("auth none", "edgerelay")
	_ = s.subscribe("jobs-summary") // a group that has to be joined
	down := fmt.Sprint("redis://127.0.0.1:", testkit.FreePort(t))
	done := make(chan error, 1)
	file := s.file("auth awx "+me.URL+"\nchannel_layer redis "+down, "edgerelay")
	go func() { done <- s.load(file) }()
	login := http.Header{"Cookie": {"awx_sessionid=s"}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for served := 0; ; served++ {
		select {
		case err := <-done:
			if err != nil || served == 0 {
				t.Errorf("%v; %d clients were served meanwhile", err, served)
			}
			return
		case <-tick.C:
			c := s.dial("/websocket/", login)
			next(t, c, `{"accept": true, "user": 1}`)
			if err := c.Close(1000); err != nil {
				t.Fatalf("client %d: %v", served, err)
			}
		}
	}
}

// The HTTP server may start before the app does, and must find an authorizer then.
func TestAuthorizerBeforeStart(t *testing.T) {
	config, err := adapt(global("auth none"))
	if err != nil {
		t.Fatal(err)
	}
	var c *caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(c)
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.App("edgerelay")
	if err != nil {
		t.Fatal(err)
	}
	if app.(*App).config.Authorizer == nil {
		t.Error("no authorizer before Start")
	}
	if err := app.(*App).Cleanup(); err != nil {
		t.Error(err)
	}
}
