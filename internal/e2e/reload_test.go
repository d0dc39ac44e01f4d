package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

const reloadSockets = 2000

// A follower is a socket that must see {"n": 0}, {"n": 1}, … without a gap.
type follower struct {
	next atomic.Int64
	done chan struct{}
	err  error // why it stopped following; read after done is closed
}

// follow reads to the end of a client. The client is a cheap one: a library's would give up when this process takes
// longer than a few seconds to answer a ping.
func follow(c *wstest.Raw) *follower {
	f := &follower{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		for {
			text, err := c.Next(5 * time.Minute)
			if err != nil {
				f.err = err
				return
			}
			if want := `{"n": ` + strconv.FormatInt(f.next.Load(), 10) + `}`; text != want {
				f.err = fmt.Errorf("got %.200q, want %s", text, want)
				return
			}
			f.next.Add(1)
		}
	}()
	return f
}

// at tells whether the follower has seen n events and is still there.
func (f *follower) at(n int) error {
	select {
	case <-f.done:
		return fmt.Errorf("ended after %d events: %w", f.next.Load(), f.err)
	default:
	}
	if got := f.next.Load(); got != int64(n) {
		return fmt.Errorf("has seen %d events, want %d", got, n)
	}
	return nil
}

func allAt(followers []*follower, n int) error {
	for i, f := range followers {
		if err := f.at(n); err != nil {
			return fmt.Errorf("socket %d %w", i, err)
		}
	}
	return nil
}

// A configuration of the relay that the test changes piece by piece.
type settings struct {
	redis, api, strict, matcher, more string
	groups                            int
}

func (c settings) caddyfile() string {
	return fmt.Sprintf(`{
	admin {$ADMIN}
	persist_config off
	edgerelay {
		channel_layer redis {
			url %s
			capacity 10000
		}
		auth awx http://%s {
			strict %s
		}
		limits {
			groups_per_connection %d
			connections_per_user 5000
			connections_per_address 5000
		}
	}
}
{$SITE} {
	bind 127.0.0.1
	edgerelay %s
	reverse_proxy %s
}
%s`, c.redis, c.api, c.strict, c.groups, c.matcher, c.api, c.more)
}

// 2,000 sockets through three reloads with a changed limit, auth and path, a refused
// reload and a move to another Redis: none closed, no event lost. Then a stop: all
// are told 1001.
func TestReloads(t *testing.T) {
	s := newStage(t)
	login := s.logins[peers.Alice]
	now := settings{redis: s.redis.URL, api: s.controller.Addr(), strict: "on", groups: 10}
	r := peers.StartRelay(t, now.caddyfile())
	followers := connectFollowers(t, r.URL, login)
	probe := subscriber(t, r.URL, login)

	load := func(what string) {
		t.Helper()
		begin := time.Now()
		if err := r.Load(now.caddyfile()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: reloaded in %v", what, time.Since(begin))
	}
	// allowed tells whether the open probe may have these groups.
	allowed := func(groups ...string) bool {
		t.Helper()
		answer, err := ask(probe, login, groups...)
		if err != nil {
			t.Fatal(err)
		}
		_, refused := answer["error"]
		if refused {
			// An object that is denied has an answer for the rest after it.
			if text := fmt.Sprint(answer["error"]); strings.Contains(text, "for resource id") {
				if _, err := expectKey(probe, "groups_current"); err != nil {
					t.Fatal(err)
				}
			}
		}
		return !refused
	}
	expect := func(want bool, groups ...string) {
		t.Helper()
		if got := allowed(groups...); got != want {
			t.Errorf("groups %q allowed: %t, want %t", groups, got, want)
		}
	}

	wait := s.emitter.Pace("jobs-summary", 0, 100_000, 150*time.Millisecond)
	moving := func(n int64) {
		t.Helper()
		target := followers[0].next.Load() + n
		testkit.Eventually(t, "events go on", func() error {
			if got := followers[0].next.Load(); got < target {
				return fmt.Errorf("%d of %d", got, target)
			}
			return nil
		})
	}
	moving(3)

	three := []string{"jobs-a", "jobs-b", "jobs-c"}
	expect(true, three...)
	now.groups = 2
	load("a changed limit")
	expect(false, three...)
	expect(true, three[:2]...)
	moving(3)

	expect(false, "project_update_events-4")
	now.strict = "off"
	load("a changed auth")
	expect(true, "project_update_events-4")
	moving(3)

	now.matcher = "/api/*"
	load("a changed path")
	if _, _, err := wstest.Dial(t, r.URL+"/api/websocket/", login.Header()); err != nil {
		t.Errorf("the path that remains: %v", err)
	}
	moving(3)

	refused := now
	refused.groups, refused.strict = 1, "on"
	// The port is taken: this fails when everything else has been provisioned.
	refused.more = "http://" + s.redis.Addr + " {\n\tbind 127.0.0.1\n\trespond no\n}\n"
	if err := r.Load(refused.caddyfile()); err == nil {
		t.Error("a configuration with a port that is taken was accepted")
	}
	broken := strings.Replace(now.caddyfile(), "capacity 10000", "capacity lots", 1)
	if err := r.Load(broken); err == nil {
		t.Error("a configuration with capacity lots was accepted")
	}
	expect(true, three[:2]...)
	expect(true, "project_update_events-4")
	moving(3)

	s.emitter.StopPacing()
	paced := wait()
	sent := len(paced.Times)
	if len(paced.Failed) > 0 {
		t.Fatalf("%d events could not be sent", len(paced.Failed))
	}
	testkit.Eventually(t, "every socket has every event", func() error { return allAt(followers, sent) })

	other := peers.StartRedis(t)
	now.redis = other.URL
	load("another Redis")
	emitter := peers.StartEmitter(t, other.URL)
	wait = emitter.Pace("jobs-summary", sent, 20, 50*time.Millisecond)
	sent += len(wait().Times)
	testkit.Eventually(t, "every socket has every event of the other Redis",
		func() error { return allAt(followers, sent) })
	testkit.Eventually(t, "the relay has left the group in the first Redis", func() error {
		if m := s.emitter.Members(s.redis.URL, "jobs-summary"); len(m) != 0 {
			return fmt.Errorf("members %q", m)
		}
		return nil
	})
	t.Logf("%d sockets, %d events each", len(followers), sent)

	begin := time.Now()
	r.Stop(t, 20*time.Second)
	for i, f := range followers {
		select {
		case <-f.done:
		case <-time.After(patience):
			t.Fatalf("socket %d is still open %v after the stop", i, time.Since(begin))
		}
		if closed := (wstest.ClosedError{}); !errors.As(f.err, &closed) || closed.Code != 1001 {
			t.Fatalf("socket %d after the stop: %v, want a close with 1001", i, f.err)
		}
	}
	t.Logf("stopped, every socket closed with 1001, in %v", time.Since(begin))
	if m := emitter.Members(other.URL, "jobs-summary"); len(m) != 0 {
		t.Errorf("members of the group after the stop: %q, want none", m)
	}
}

func connectFollowers(t *testing.T, url string, login peers.Login) []*follower {
	t.Helper()
	begin := time.Now()
	followers := make([]*follower, reloadSockets)
	errs := make([]error, reloadSockets)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= reloadSockets {
					return
				}
				c, err := wstest.DialRaw(url+"/websocket/", login.Header().Get("Cookie"))
				if err == nil {
					t.Cleanup(c.Close)
					err = c.Subscribe(login.CSRF, "jobs-summary")
				}
				if err != nil {
					errs[i] = err
					return
				}
				followers[i] = follow(c)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sockets connected in %v", reloadSockets, time.Since(begin))
	return followers
}
