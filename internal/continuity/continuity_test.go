package continuity

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/oracle"
	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// scale is the size of a scene.
type scale struct {
	clients, groups int
	rate            float64 // events a second, of all emitters
	length          time.Duration
	// kills, wipes, restarts and cuts are the number of faults of each kind, evenly spread.
	kills, wipes, restarts, cuts int
	down                         time.Duration // of a killed node
}

// scaleOf returns the scale of a scene: short, or with CONTINUITY=full as long as wanted.
func scaleOf(t *testing.T, short, full scale) scale {
	switch given := os.Getenv("CONTINUITY"); given {
	case "":
		return short
	case "full":
		return full
	default:
		length, err := time.ParseDuration(given)
		if err != nil {
			t.Fatalf("CONTINUITY=%s: want full, a duration such as 1h, or nothing for a short run", given)
		}
		times := float64(length) / float64(full.length)
		full.length = length
		for _, n := range []*int{&full.kills, &full.wipes, &full.restarts, &full.cuts} {
			*n = max(1, int(float64(*n)*times))
		}
		return full
	}
}

// fault is something that happens to the site.
type fault struct {
	name  string
	times int // evenly spread
	do    func(n int)
}

// play runs emitters and clients for the scene's length, with faults in between, and judges.
func (s *site) play(sc scale, emitters func() []*emitter, faults []fault) {
	s.open(sc.clients, sc.groups, 4)
	s.await("the subscriptions", func() error {
		for _, c := range s.clients {
			if err := c.Ready(); err != nil {
				return err
			}
		}
		return nil
	})
	running := emitters()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.churn(ctx)
	began := time.Now()
	for i, f := range faults {
		s.running.Go(func() {
			for n := range f.times {
				// Kinds of faults take turns.
				share := (float64(n) + float64(i+1)/float64(len(faults)+1)) / float64(f.times)
				at := began.Add(time.Duration(share * float64(sc.length)))
				if testkit.Pause(ctx.Done(), time.Until(at)); ctx.Err() != nil {
					return
				}
				s.t.Logf("%5.1f s: %s", time.Since(began).Seconds(), f.name)
				f.do(n)
			}
		})
	}
	testkit.Pause(nil, sc.length)
	cancel()
	for _, e := range running {
		e.end(s.t)
	}
}

// finish waits until every client has the last events, and judges.
func (s *site) finish() {
	settled := func() error { return s.oracle.Behind(s.clients) }
	if err := testkit.Poll(testkit.Scale(30*time.Second), nil, settled); err != nil {
		s.t.Logf("at the end: %v", err)
	}
	s.close()
	for _, c := range s.clients {
		c.Judge()
	}
	s.t.Log(s.oracle.Report())
	for _, f := range s.oracle.Faults() {
		s.t.Error(f)
	}
	total := s.oracle.Total()
	if total.Published == 0 || total.Received < total.Published || total.Recovered == 0 {
		s.t.Errorf("the scene proves nothing: %+v", total)
	}
}

func (s *site) await(name string, check func() error) {
	s.t.Helper()
	testkit.EventuallyWithin(s.t, time.Minute, name, check)
}

// One Redis and two nodes. A node is killed again and again, asgi:* is wiped, and Redis restarts.
func TestOneRedis(t *testing.T) {
	sc := scaleOf(t,
		scale{clients: 100, groups: 40, rate: 200, length: 20 * time.Second, kills: 2, wipes: 1, restarts: 1, down: 3 * time.Second},
		scale{clients: 1000, groups: 200, rate: 1000, length: 10 * time.Minute, kills: 10, wipes: 2, restarts: 1, down: 10 * time.Second})
	redis := peers.StartRedis(t)
	s := &site{t: t, oracle: oracle.New()}
	for range 2 {
		s.addNode(caddyfile(redis.URL, ""))
	}
	s.play(sc, func() (list []*emitter) {
		for i, ahead := range []time.Duration{0, 50 * time.Millisecond, -50 * time.Millisecond} {
			list = append(list, startEmitter(t, s.oracle, redis.URL, string(rune('a'+i)), sc.groups, sc.rate/3, ahead))
		}
		return list
	}, []fault{
		{"a node is killed", sc.kills, func(n int) {
			s.kill(s.nodes[n%2])
			testkit.Pause(nil, sc.down)
			s.restart(s.nodes[n%2])
		}},
		{"asgi:* is wiped", sc.wipes, func(int) { wipe(t, redis) }},
		{"Redis restarts", sc.restarts, func(int) {
			redis.Kill()
			testkit.Pause(nil, time.Second)
			redis.Restart()
		}},
	})
	s.finish()
}

// Two nodes with a Redis each, joined by the backplane. Links are cut, and a node is killed.
func TestTwoRedis(t *testing.T) {
	sc := scaleOf(t,
		scale{clients: 100, groups: 40, rate: 200, length: 15 * time.Second, kills: 1, cuts: 3, down: 3 * time.Second},
		scale{clients: 1000, groups: 200, rate: 1000, length: 10 * time.Minute, kills: 10, cuts: 10, down: 10 * time.Second})
	s := &site{t: t, oracle: oracle.New()}
	var stores []*peers.Redis
	for range 2 {
		stores = append(stores, peers.StartRedis(t))
	}
	backplane := func(peer string) string {
		return fmt.Sprintf("history_key a-secret-of-all-nodes-0123456789\nbackplane {\n\tsecret %s\n\tpeers %s\n"+
			"\tretry 1s\n\tping 1s\n\tsilence 3s\n}", "a-long-secret-of-the-backplane-0123456789", peer)
	}
	a := s.addNode(caddyfile(stores[0].URL, backplane("http://127.0.0.1:1")))
	link := testkit.StartProxy(t, a.URL[len("http://"):])
	s.addNode(caddyfile(stores[1].URL, backplane("http://"+link.Addr)))
	s.play(sc, func() (list []*emitter) {
		for i, ahead := range []time.Duration{0, 50 * time.Millisecond, -50 * time.Millisecond} {
			list = append(list,
				startEmitter(t, s.oracle, stores[i%2].URL, string(rune('a'+i)), sc.groups, sc.rate/3, ahead))
		}
		return list
	}, []fault{
		{"the link is cut", sc.cuts, func(int) { link.Cut() }},
		{"a node is killed", sc.kills, func(n int) {
			s.kill(s.nodes[n%2])
			testkit.Pause(nil, sc.down)
			s.restart(s.nodes[n%2])
		}},
	})
	s.finish()
}
