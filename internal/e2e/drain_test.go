package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay"
)

// openSite is a relay on a Redis that lets everybody in; more are lines of its option edgerelay.
func openSite(redisURL, more string) string {
	return `{
	admin {$ADMIN}
	skip_install_trust
	edgerelay {
		channel_layer redis {
			url ` + redisURL + `
			capacity 10000
			group_expiry 157784760s
		}
		auth none
		limits {
			connections_per_user 0
		}
` + more + `
	}
}
{$SITE} {
	edgerelay_health
	edgerelay
	respond ok
}
`
}

// sight is an event, and when it came.
type sight struct {
	text string
	at   time.Time
}

// spectator is one of a crowd: it keeps the events it gets, and how its connection ended.
type spectator struct {
	raw    *wstest.Raw
	events atomic.Int64
	came   []sight
	ended  time.Time
	err    error
}

// spectators connects n clients that are subscribed to a group. wait waits until all connections have ended.
func spectators(t *testing.T, url, group string, n int) (all []*spectator, wait func()) {
	t.Helper()
	all = make([]*spectator, n)
	errs := make([]error, n)
	var next atomic.Int64
	var connecting, reading sync.WaitGroup
	for range 32 {
		connecting.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				raw, err := wstest.DialRaw(url+"/websocket/", "csrftoken=t")
				if err == nil {
					err = raw.Subscribe("t", group)
				}
				if err != nil {
					errs[i] = err
					return
				}
				s := &spectator{raw: raw}
				all[i] = s
				reading.Go(func() {
					for s.err == nil {
						var text string
						if text, s.err = raw.Next(time.Minute); s.err == nil {
							s.came = append(s.came, sight{text, time.Now()})
							s.events.Add(1)
						}
					}
					s.ended = time.Now()
				})
			}
		})
	}
	connecting.Wait()
	t.Cleanup(func() {
		for _, s := range all {
			if s != nil {
				s.raw.Close()
			}
		}
		reading.Wait()
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return all, reading.Wait
}

// drainStatus is a part of the response of /edgerelay/drain.
type drainStatus struct {
	State   string `json:"state"`
	Clients int    `json:"clients"`
}

// adminDrain calls /edgerelay/drain.
func adminDrain(t *testing.T, r *peers.Relay, method, body string) (s drainStatus) {
	t.Helper()
	status, answer := call(t, method, r.Admin+"/edgerelay/drain", []byte(body))
	if status/100 != 2 {
		t.Fatalf("%s /edgerelay/drain: %d: %s", method, status, answer)
	}
	if err := json.Unmarshal([]byte(answer), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A site of ten thousand is told to go, by SIGTERM: all leave with 1012, as many in each part of the time, they get
// events until their turn, no other client is let in, and nothing is left in Redis.
func TestDrainOfTenThousand(t *testing.T) {
	const clients, over, every = 10_000, 5 * time.Second, 400 * time.Millisecond
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, openSite(redis.URL, "drain 5s"))
	all, wait := spectators(t, r.URL, "jobs-summary", clients)
	emitter := peers.StartEmitter(t, redis.URL)
	paced := emitter.Pace("jobs-summary", 0, 10_000, every)
	testkit.Eventually(t, "the events flow", func() error {
		if n := all[0].events.Load(); n < 2 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})

	began := time.Now()
	r.Signal(syscall.SIGTERM)
	wait()
	all1012, last, first := true, time.Time{}, time.Now()
	var ends []time.Duration
	for i, s := range all {
		var closed wstest.ClosedError
		if !errors.As(s.err, &closed) || closed.Code != relay.CloseRestart {
			if all1012 {
				t.Errorf("client %d: %v, want close code 1012", i, s.err)
			}
			all1012 = false
		}
		ends = append(ends, s.ended.Sub(began))
		if s.ended.After(last) {
			last = s.ended
		}
		if s.ended.Before(first) {
			first = s.ended
		}
	}
	r.Stop(t, 20*time.Second)
	stopped := time.Since(began)
	emitter.StopPacing()
	sent := paced()

	slices.Sort(ends)
	most := 0
	for tenth := range 10 {
		from, to := over*time.Duration(tenth)/10, over*time.Duration(tenth+1)/10
		i, _ := slices.BinarySearch(ends, from)
		k, _ := slices.BinarySearch(ends, to)
		most = max(most, k-i)
	}
	if most > clients/10*2 {
		t.Errorf("%d of %d clients left in a tenth of the time", most, clients)
	}
	if d := last.Sub(began); d < over*9/10 || d > over+3*time.Second {
		t.Errorf("the last client left after %v, want %v", d, over)
	}
	// Until its turn each client got every event, in order, as soon as this machine could.
	late := time.Duration(0)
	for i, s := range all {
		for n, e := range s.came {
			if want := fmt.Sprintf(`{"n": %d}`, n); e.text != want {
				t.Fatalf("client %d: event %d is %s", i, n, e.text)
			}
			late = max(late, e.at.Sub(sent.Times[n]))
		}
		due := 0
		for _, at := range sent.Times {
			if at.Before(s.ended.Add(-3 * time.Second)) {
				due++
			}
		}
		if len(s.came) < due {
			t.Fatalf("a client that left after %v got %d events, and %d had been sent three seconds before",
				s.ended.Sub(began), len(s.came), due)
		}
	}
	if left := redis.Do("KEYS", "*edgerelay*"); len(left.([]any)) > 0 {
		t.Errorf("left behind in Redis: %v", left)
	}
	if m := emitter.Members(redis.URL, "jobs-summary"); len(m) != 0 {
		t.Errorf("members afterwards: %q", m)
	}
	t.Logf("%d clients told with 1012 between %v and %v after SIGTERM, at most %d in a tenth of the time; the process ended after %v; %d events were sent, the last to arrive took %v",
		clients, first.Sub(began).Round(time.Millisecond), last.Sub(began).Round(time.Millisecond), most, stopped.Round(time.Millisecond), len(sent.Times), late.Round(time.Millisecond))
}

// SIGTERM while an admin's drain is under way, and in the middle of a reload: the process ends in order, and every
// client is told.
func TestSIGTERMAtABadMoment(t *testing.T) {
	t.Parallel()
	const clients = 200
	for name, moment := range map[string]struct {
		option string
		before func(t *testing.T, r *peers.Relay, redis *peers.Redis)
		code   int
		within time.Duration
	}{
		"during a drain": {"", func(t *testing.T, r *peers.Relay, _ *peers.Redis) {
			if s := adminDrain(t, r, "POST", `{"duration": "10m"}`); s.State != "draining" || s.Clients != clients {
				t.Fatalf("%+v", s)
			}
		}, relay.CloseRestart, 5 * time.Second},
		"during a drain, with a pace for the stop": {"drain 1s", func(t *testing.T, r *peers.Relay, _ *peers.Redis) {
			adminDrain(t, r, "POST", `{"duration": "10m"}`)
		}, relay.CloseRestart, 6 * time.Second},
		"in the middle of a reload": {"", func(t *testing.T, r *peers.Relay, redis *peers.Redis) {
			// The new channel layer does not answer, so that the reload waits for it.
			asked := make(chan struct{})
			once := sync.OnceFunc(func() { close(asked) })
			silent := testkit.StartRelay(t, redis.Addr, func(int, []byte, io.Writer) { once() }, nil)
			go func() { _ = r.Load(openSite("redis://"+silent.Addr+"/0", "")) }()
			testkit.Eventually(t, "the reload has sent a command to the new layer", func() bool {
				select {
				case <-asked:
					return true
				default:
					return false
				}
			})
		}, relay.CloseGoingAway, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := peers.StartRedis(t)
			r := peers.StartRelay(t, openSite(redis.URL, moment.option))
			all, wait := spectators(t, r.URL, "jobs-summary", clients)
			moment.before(t, r, redis)
			began := time.Now()
			r.Stop(t, moment.within)
			t.Logf("the process ended after %v", time.Since(began).Round(time.Millisecond))
			wait()
			for i, s := range all {
				var closed wstest.ClosedError
				if !errors.As(s.err, &closed) || closed.Code != moment.code {
					t.Fatalf("client %d: %v, want close code %d", i, s.err, moment.code)
				}
			}
			if keys := redis.Do("KEYS", "*"); len(keys.([]any)) > 0 {
				t.Errorf("left behind in Redis: %v", keys)
			}
			if !strings.Contains(r.Log(), "shutdown complete") {
				t.Error("the process did not end in order")
			}
		})
	}
}
