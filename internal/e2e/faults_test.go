package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// What befalls a Redis while events flow: no client is closed, nothing comes twice
// or out of order, and two seconds after the fault is over every event arrives.
func TestFaults(t *testing.T) {
	for _, fault := range []struct {
		name string
		// strike does it and returns when it is over.
		strike func(*testing.T, *stage)
		// lossless: Redis keeps its messages, so that every event that was
		// accepted arrives.
		lossless bool
	}{
		{"FLUSHALL", func(_ *testing.T, s *stage) { s.redis.Do("FLUSHALL") }, false},
		{"AWX's wipe at its start", func(t *testing.T, s *stage) {
			if s.emitter.WipeGroups(s.redis.URL) == 0 {
				t.Fatal("there was nothing to wipe")
			}
		}, false},
		{"CLIENT KILL", func(t *testing.T, s *stage) {
			if s.redis.KillClients() < 2 {
				t.Fatal("there were no connections of the relay to kill")
			}
		}, true},
		{"kill -9 and a restart at once", func(_ *testing.T, s *stage) {
			s.redis.Kill()
			s.redis.Restart()
		}, false},
		{"kill -9 and two seconds without Redis", func(_ *testing.T, s *stage) {
			s.redis.Kill()
			<-time.After(2 * time.Second) // the length of the outage
			s.redis.Restart()
		}, false},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			_, relay := s.startRelay(t)
			s.withstand(t, relay, fault.strike, fault.lossless)
		})
	}
}

const (
	paceInterval = 10 * time.Millisecond
	paceCount    = 10_000 // more than there is time for
	// recovery is how long after a fault events may be missing.
	recovery = 2 * time.Second
	// transit is how long before a fault an event must have been sent to count as
	// delivered before it.
	transit = 500 * time.Millisecond
)

func (s *stage) withstand(t *testing.T, where site, strike func(*testing.T, *stage), lossless bool) {
	t.Helper()
	login := s.logins[peers.Alice]
	c := subscriber(t, where.url, login, "jobs-summary")
	idle := subscriber(t, where.url, login, "jobs-status_changed")

	arrived := map[int]bool{}
	last := -1
	read := func() (string, error) {
		text, err := c.Next(patience)
		if err != nil || strings.HasPrefix(text, `"`) {
			return text, err
		}
		var event struct{ N int }
		if err := json.Unmarshal([]byte(text), &event); err != nil {
			return text, err
		}
		if event.N <= last {
			return text, fmt.Errorf("event %d came after %d", event.N, last)
		}
		last = event.N
		arrived[last] = true
		return text, nil
	}

	wait := s.emitter.Pace("jobs-summary", 0, paceCount, paceInterval)
	for last < 99 {
		if _, err := read(); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now()
	strike(t, s)
	after := time.Now()
	<-time.After(recovery + 2*time.Second) // how long there is traffic afterwards
	s.emitter.StopPacing()
	paced := wait()
	if final := paced.Times[len(paced.Times)-1]; final.Before(after.Add(recovery + time.Second)) {
		t.Fatalf("the events ended %v after the fault: too early to tell", final.Sub(after))
	}
	s.emitter.Send(peers.Event{Group: "jobs-summary", Text: `"the end"`}, peers.Event{Group: "jobs-status_changed", Text: "idle"})
	for {
		text, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if text == `"the end"` {
			break
		}
	}

	lost, resumed := 0, time.Duration(-1)
	for n, sent := range paced.Times {
		switch {
		case arrived[n]:
			if resumed < 0 && sent.After(after) {
				resumed = sent.Sub(after)
			}
		case paced.Failed[n]:
			if sent.After(after.Add(recovery)) {
				t.Errorf("event %d could not be sent %v after the fault", n, sent.Sub(after))
			}
		default:
			lost++
			if lossless || sent.Before(before.Add(-transit)) || sent.After(after.Add(recovery)) {
				t.Errorf("event %d is lost; it was sent %v after the fault was over", n, sent.Sub(after))
			}
		}
	}
	t.Logf("%s took %v; the first event to arrive was sent %v after it; %d accepted events lost, %d refused by Redis",
		t.Name(), after.Sub(before), resumed, lost, len(paced.Failed))

	if err := expectTexts(idle, []string{"idle"}); err != nil {
		t.Errorf("a client that was quiet: %v", err)
	}
	if err := nothingMore(c); err != nil {
		t.Error(err)
	}
	if m := s.emitter.Members(s.redis.URL, "jobs-summary"); len(m) != 1 {
		t.Errorf("members of the group afterwards: %q, want one", m)
	}
}
