package doctor

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	memorylayer "github.com/edgerelay/edgerelay/relay/layer/memory"
	layer "github.com/edgerelay/edgerelay/relay/layer/redis"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}

var ctx = context.Background()

// expect checks the level of a finding, and words in its text and remedy.
func expect(t *testing.T, f Finding, level Level, words ...string) {
	t.Helper()
	line := f.Text + " → " + f.Remedy
	if f.Level != level || (level != OK && f.Remedy == "") || f.Check == "" {
		t.Errorf("%s: %s, want %s", f.Level, line, level)
	}
	for _, w := range words {
		if !strings.Contains(line, w) {
			t.Errorf("%q does not contain %q", line, w)
		}
	}
}

func client(t *testing.T, r *peers.Redis, user, password string) *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: r.Addr, Username: user, Password: password, MaxRetries: -1, DisableIdentity: true,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedis(t *testing.T) {
	r := peers.StartRedis(t)
	c := client(t, r, "", "")
	for _, f := range append(Redis(ctx, c), Access(ctx, c, "asgi")...) {
		expect(t, f, OK)
	}
	if keys := r.Do("KEYS", "*"); len(keys.([]any)) != 0 {
		t.Errorf("the checks left %v behind", keys)
	}

	memory := func() Finding { t.Helper(); list := Redis(ctx, c); return list[len(list)-1] }
	r.Do("CONFIG", "SET", "maxmemory", "20mb")
	expect(t, memory(), OK)
	r.Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	expect(t, memory(), Warning, "evicts", "noeviction")
	for i := range 170 { // in small pieces: buffers count, too
		if err := c.Set(ctx, fmt.Sprint("fill", i), strings.Repeat("x", 100<<10), 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, memory(), Failure, "evicts", "raise maxmemory")
	r.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	expect(t, memory(), Failure, "rejects emitters")
	r.Do("CONFIG", "SET", "maxmemory", "10mb") // over its limit: it takes nothing any more
	expect(t, Access(ctx, c, "asgi")[0], Failure, "full")
	r.Do("CONFIG", "SET", "maxmemory", "0")

	// A user who may not do all, one who may not be notified, and a wrong password.
	r.Do("ACL", "SETUSER", "half", "on", ">pw", "~asgi*", "+@connection", "+@read", "+info", "+zadd")
	expect(t, Access(ctx, client(t, r, "half", "pw"), "asgi")[0], Failure, "EXPIRE", "ACL SETUSER")
	r.Do("ACL", "SETUSER", "elsewhere", "on", ">pw", "~other*", "+@all")
	expect(t, Access(ctx, client(t, r, "elsewhere", "pw"), "asgi")[0], Failure, "ZADD", "~asgi*")
	r.Do("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "-client")
	list := Access(ctx, client(t, r, "deaf", "pw"), "asgi")
	expect(t, list[len(list)-1], Warning, "polls", "+client")
	expect(t, Redis(ctx, client(t, r, "half", "wrong"))[0], Failure, "password")

	r.Kill()
	expect(t, Redis(ctx, c)[0], Failure, r.Addr, "start Redis")
	expect(t, version("x", map[string]string{"redis_version": "5.0.14"}), Warning, "Redis 6")
	expect(t, version("x", map[string]string{"redis_version": "10.0.1"}), OK)
}

func TestLayer(t *testing.T) {
	r := peers.StartRedis(t)
	c := client(t, r, "", "")
	hosts := []*redis.Client{c}
	expect(t, Prefix(ctx, hosts, "asgi"), OK)
	r.Do("ZADD", "shop:group:jobs-summary", 1, "specific.a!b")
	expect(t, Prefix(ctx, hosts, "asgi"), Failure, `"shop"`, "none under this relay's")
	r.Do("ZADD", "asgi:group:jobs-summary", 1, "specific.a!b")
	expect(t, Prefix(ctx, hosts, "asgi"), Warning, `"shop"`)

	expect(t, Capacity(ctx, hosts, "asgi", 10), OK, "has 0 events")
	for i := range 8 {
		r.Do("ZADD", "asgispecific.gone!", i, fmt.Sprint(i))
	}
	expect(t, Capacity(ctx, hosts, "asgi", 10), Warning, "8 of at most 10 events", "asgispecific.gone!")
	expect(t, Capacity(ctx, hosts, "asgi", 8), Failure, "drop")
	r.Do("SET", "asgispecific.odd", "no sorted set")
	expect(t, Capacity(ctx, hosts, "asgi", 100), OK, "has 8 events")

	expect(t, Peak(10, 100), OK)
	expect(t, Peak(80, 100), Warning, "80")
	expect(t, Peak(100, 100), Failure, "dropped")
	expect(t, AWXCapacity(100), Warning, "10000")
	expect(t, AWXCapacity(10_000), OK)
	expect(t, Losses(nil, hub.LossReport{}), OK)
	expect(t, Losses(map[string]hub.LossCount{"failover": {Times: 2}, "interrupted": {}},
		hub.LossReport{At: time.Now(), Text: "events of g"}),
		Warning, "failover 2", "events of g", "resync")
	expect(t, Wiped(0, time.Time{}), OK)
	expect(t, Wiped(3, time.Now()), Warning, "3 memberships", "FLUSHALL")
	expect(t, Clocks(0, 10), OK)
	expect(t, Clocks(1, 10), Warning, "clock is ahead")
	expect(t, Files(1024, 100_000), Warning, "LimitNOFILE")
	expect(t, Files(200_000, 100_000), OK)
	expect(t, Files(1024, 0), OK)

	r.Kill()
	expect(t, Prefix(ctx, hosts, "asgi"), Warning, "SCAN")
	expect(t, Capacity(ctx, hosts, "asgi", 10), Warning, "SCAN")
}

func TestAWX(t *testing.T) {
	status, wait, location := http.StatusUnauthorized, time.Duration(0), ""
	csrf, session := "csrftoken", "awx_sessionid"
	awx := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/login/" {
			http.SetCookie(w, &http.Cookie{Name: csrf, Value: "x"})
			w.Header().Set("X-API-Session-Cookie-Name", session)
			return
		}
		time.Sleep(wait)
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(status)
	}))
	defer awx.Close()
	look := func(level Level, words ...string) {
		t.Helper()
		list := AWX(ctx, awx.URL, "awx_sessionid", nil)
		worst := list[0]
		for _, f := range list {
			if f.Level != OK {
				worst = f
			}
		}
		expect(t, worst, level, words...)
	}
	look(OK)
	wait = 1100 * time.Millisecond
	look(Warning, "to respond; every new websocket is delayed by that")
	wait = 0
	csrf = "tower_csrf"
	look(Failure, "tower_csrf", "csrftoken")
	csrf, session = "csrftoken", "tower_sessionid"
	look(Failure, "session_cookie tower_sessionid")
	session = "awx_sessionid"
	status = http.StatusOK
	look(Failure, "everybody")
	status = http.StatusBadRequest
	look(Failure, "ALLOWED_HOSTS")
	status = http.StatusBadGateway
	look(Failure, "502")
	status, location = http.StatusMovedPermanently, "https://elsewhere/"
	look(Failure, "redirects to https://elsewhere/")
	awx.Close()
	look(Failure, "auth awx <url>")
}

func TestPeer(t *testing.T) {
	ahead := time.Duration(0)
	endpoint := "/websocket/broadcast/"
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		_, _, err := backplane.Secrets{"right"}.Verify(r.Header.Get("Secret"), time.Now().Add(ahead))
		if r.Header.Get("Sec-Websocket-Protocol") == "edgerelay.v1" {
			_, _, err = backplane.Secrets{"right"}.VerifyNative(r.Header.Get("Secret"), time.Now().Add(ahead))
		}
		switch {
		case r.URL.Path != endpoint:
			w.WriteHeader(http.StatusNotFound)
		case err != nil:
			w.WriteHeader(http.StatusForbidden)
		default:
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
		}
	}))
	defer node.Close()
	expect(t, Peer(ctx, node.URL, false, backplane.Secrets{"right"}, nil)[0], OK, "accepts this node")
	expect(t, Peer(ctx, node.URL+"/", false, backplane.Secrets{"new", "right"}, nil)[0], OK)
	expect(t, Peer(ctx, node.URL, true, backplane.Secrets{"new", "right"}, nil)[0], OK)
	expect(t, Peer(ctx, node.URL, false, backplane.Secrets{"wrong"}, nil)[0], Failure, "a different secret",
		"BROADCAST_WEBSOCKET_SECRET")
	ahead = -30 * time.Second
	expect(t, Peer(ctx, node.URL, false, backplane.Secrets{"right"}, nil)[0], Warning, "clock", "synchronize")
	ahead = 400 * time.Second
	expect(t, Peer(ctx, node.URL, false, backplane.Secrets{"right"}, nil)[0], Failure, "clock", "403")
	ahead, endpoint = 0, "/websocket/relay/"
	expect(t, Peer(ctx, node.URL, false, backplane.Secrets{"right"}, nil)[0], OK)
	endpoint = "/none/"
	expect(t, Peer(ctx, node.URL, false, backplane.Secrets{"right"}, nil)[0], Failure, "404", "proxy")
	node.Close()
	expect(t, Peer(ctx, node.URL, false, backplane.Secrets{"right"}, nil)[0], Failure, "cannot be reached")
}

// noLogin is an authorizer that knows no login.
type noLogin struct{ relay.Open }

func (noLogin) Recheck(context.Context, relay.Identity) error { return relay.ErrUnauthenticated }

// The authorizer does not know the websocket of the round trip, and must not be asked.
func TestRoundTripIsNotRechecked(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	hub := hub.New(quiet)
	if err := hub.SetBroker(ctx, memorylayer.NewLayer().Broker()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = hub.Close(ctx)
	}()
	hub.SetAuthorizer(noLogin{}, time.Millisecond)
	for range 20 {
		expect(t, RoundTrip(ctx, hub), OK, "websocket and back")
	}
}

func TestRoundTrip(t *testing.T) {
	r := peers.StartRedis(t)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	hub := hub.New(quiet)
	s := layer.DefaultSettings()
	s.URLs = []string{r.URL}
	broker, err := layer.New(s, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.SetBroker(ctx, broker); err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = hub.Close(ctx)
	}()
	expect(t, RoundTrip(ctx, hub), OK, "websocket and back")
	if n := hub.Stats().Groups; n != 0 {
		testkit.Eventually(t, "the group is left", func() error {
			if n := hub.Stats().Groups; n != 0 {
				return fmt.Errorf("%d groups", n)
			}
			return nil
		})
	}
	r.Kill()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	expect(t, RoundTrip(short, hub), Failure, "did not come back")
}
