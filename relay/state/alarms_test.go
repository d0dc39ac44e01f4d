package state

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

func next(t testing.TB, list chan fired) fired {
	t.Helper()
	select {
	case f := <-list:
		return f
	case <-time.After(15 * time.Second):
		t.Fatal("no alarm fired")
		return fired{}
	}
}

func TestAlarmsFireOnceInTime(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		_, list := schedule(t, s, "a", 0)
		for i := range 20 {
			at := time.Now().Add(time.Duration(i) * 25 * time.Millisecond)
			want(t, s, &Request{Op: AlarmSet, Key: fmt.Sprint(i), Value: []byte(at.Format(time.RFC3339Nano)), At: at}, OK, "")
		}
		seen := map[string]bool{}
		var lateness []time.Duration
		for range 20 {
			f := next(t, list)
			at, err := time.Parse(time.RFC3339Nano, f.payload)
			late := time.Since(at)
			if err != nil || seen[f.name] || late < 0 {
				t.Errorf("alarm %s: %v late, %v, seen before: %v", f.name, late, err, seen[f.name])
			}
			seen[f.name] = true
			lateness = append(lateness, late)
		}
		// A node that waits for the next look at other nodes' alarms would be half a second late.
		slices.Sort(lateness)
		t.Logf("the median alarm was %v late, the last %v", lateness[10], lateness[19])
		if lateness[10] > testkit.Scale(rereadInterval/4) {
			t.Errorf("half of the alarms were more than %v late", lateness[10])
		}
		testkit.Eventually(t, "all alarms removed", func() error {
			if u, err := s.Usage("game"); err != nil || u != (Usage{}) {
				return fmt.Errorf("usage after all alarms: %+v %v", u, err)
			}
			return nil
		})
		if len(list) > 0 {
			t.Errorf("alarm %+v fired twice", <-list)
		}
	})
}

// A node that has just started fires its own alarms in time. Alarms that are due already come later.
func TestAlarmsOfOthersWaitAfterAStart(t *testing.T) {
	const settle = time.Second
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		want(t, s, &Request{Op: AlarmSet, Key: "other", At: time.Now()}, OK, "")
		list := make(chan fired, 10)
		began := time.Now()
		a := Schedule(s, AlarmSettings{
			Settle: settle, Plugins: func() []string { return []string{"game"} },
			Fire: func(_ context.Context, _, name string, _ []byte) error {
				list <- fired{name: name}
				return nil
			},
		})
		t.Cleanup(func() { a.Close(context.Background()) })
		if f := next(t, list); f.name != "other" || time.Since(began) < settle {
			t.Errorf("%s fired %v after the start, want other after %v", f.name, time.Since(began), settle)
		}
	})
}

// scheduleSettling fires alarms on a node that has just started.
func scheduleSettling(t *testing.T, s *Store, settle time.Duration) chan fired {
	t.Helper()
	list := make(chan fired, 100)
	a := Schedule(s, AlarmSettings{
		Settle: settle, Plugins: func() []string { return []string{"game"} },
		Fire: func(_ context.Context, _, name string, _ []byte) error {
			list <- fired{name: name}
			return nil
		},
	})
	t.Cleanup(func() { a.Close(context.Background()) })
	testkit.Eventually(t, "the first step", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.lines["game"] != nil
	})
	return list
}

// A node that has just started fires all of its own alarms in time, also more than a claim takes.
func TestManyOwnAlarmsAfterAStart(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		list := scheduleSettling(t, s, time.Hour)
		at := time.Now().Add(200 * time.Millisecond)
		for i := range 50 {
			want(t, s, &Request{Op: AlarmSet, Key: fmt.Sprint(i), At: at}, OK, "")
		}
		for range 50 {
			next(t, list)
		}
	})
}

// An own alarm that is due a little later by Redis's clock fires in time after a start.
func TestOwnAlarmByRedisClockAfterAStart(t *testing.T) {
	r := peers.StartRedis(t)
	s := openRedis(t, r.URL, Limits{})
	list := scheduleSettling(t, s, time.Hour)
	want(t, s, &Request{Op: AlarmSet, Key: "own", At: time.Now().Add(500 * time.Millisecond)}, OK, "")
	r.Do("ZINCRBY", "edgerelay:state:asgi:game:due", 50, "own")
	next(t, list)
}

func TestReplacedAndCancelledAlarmsDoNotFire(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		_, list := schedule(t, s, "a", 0)
		soon := time.Now().Add(time.Second)
		for _, name := range []string{"replaced", "cancelled"} {
			want(t, s, &Request{Op: AlarmSet, Key: name, Value: []byte("old"), At: soon}, OK, "")
		}
		want(t, s, &Request{Op: AlarmSet, Key: "replaced", Value: []byte("new"), At: soon}, OK, "")
		want(t, s, &Request{Op: AlarmCancel, Key: "cancelled"}, OK, "")
		want(t, s, &Request{Op: AlarmSet, Key: "marker", At: soon.Add(200 * time.Millisecond)}, OK, "")
		got := map[string]string{}
		for range 2 {
			f := next(t, list)
			got[f.name] = f.payload
		}
		if want := map[string]string{"replaced": "new", "marker": ""}; !maps.Equal(got, want) {
			t.Errorf("alarms and payloads %q, want %q", got, want)
		}
	})
}

// TestAnswerAfterTheStartWindow cancels an alarm whose claim is fresh: its owner may start it within the window, and
// the answer must come later.
func TestAnswerAfterTheStartWindow(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		for _, op := range []Op{AlarmCancel, AlarmSet} {
			want(t, s, &Request{Op: AlarmSet, Key: "a", At: time.Now()}, OK, "")
			began := time.Now()
			testkit.Eventually(t, "the alarm is claimed", func() error {
				began = time.Now()
				res := s.do(&Request{Plugin: "game", Op: opClaim, Limit: 1, Delta: 30_000, token: "other"})
				if len(res.claims) != 1 {
					return fmt.Errorf("claimed %d alarms", len(res.claims))
				}
				return nil
			})
			want(t, s, &Request{Op: op, Key: "a", Value: []byte("new"), At: time.Now().Add(time.Hour)}, OK, "")
			if took := time.Since(began); took < startWindow {
				t.Errorf("%v: answered %v after the claim, within which the old payload may start", op, took)
			}
			for _, end := range []Op{opRenew, opRetry, opFinish} {
				if res := s.do(&Request{Plugin: "game", Op: end, Key: "a", token: "other"}); res.Status != None {
					t.Errorf("%v with the former claim: got %d", end, res.Status)
				}
			}
		}
	})
}

func TestFailedAlarmsFireAgain(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		var calls atomic.Int32
		done := make(chan struct{})
		scheduleFunc(t, s, 0, func(context.Context, string, string, []byte) error {
			if calls.Add(1) == 1 {
				return errBroken
			}
			close(done)
			return nil
		})
		want(t, s, &Request{Op: AlarmSet, Key: "a", At: time.Now()}, OK, "")
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("a failed alarm did not fire again")
		}
		if c := s.Counters(); c.Failed != 1 {
			t.Errorf("counters: got %+v, want one failure", c)
		}
	})
}

func TestAlarmsAreDroppedAfterTheLastAttempt(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		a := Schedule(s, AlarmSettings{
			Plugins:  func() []string { return []string{"game"} },
			Fire:     func(context.Context, string, string, []byte) error { return errBroken },
			Attempts: 2,
		})
		defer a.Close(t.Context())
		want(t, s, &Request{Op: AlarmSet, Key: "a", At: time.Now()}, OK, "")
		testkit.Eventually(t, "the alarm is dropped", func() error {
			u, err := s.Usage("game")
			if c := s.Counters(); err != nil || u.Alarms != 0 || c.Failed != 2 || c.Dropped != 1 {
				return fmt.Errorf("got %+v, %+v %v", c, u, err)
			}
			return nil
		})
	})
}

func TestLeaseIsRenewedWhileAnAlarmIsProcessed(t *testing.T) {
	eachPlace(t, Limits{}, func(t *testing.T, s *Store) {
		var calls atomic.Int32
		ended := make(chan struct{})
		const lease = time.Second
		scheduleFunc(t, s, lease, func(ctx context.Context, _, _ string, _ []byte) error {
			calls.Add(1)
			select {
			case <-time.After(5 * lease / 2):
			case <-ctx.Done():
			}
			close(ended)
			return nil
		})
		want(t, s, &Request{Op: AlarmSet, Key: "a", At: time.Now()}, OK, "")
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the alarm did not fire")
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("the alarm fired %d times during one call", n)
		}
	})
}

func TestAlarmsOfADeadNodeMove(t *testing.T) {
	r := peers.StartRedis(t)
	dead, live := openRedis(t, r.URL, Limits{}), openRedis(t, r.URL, Limits{})
	want(t, dead, &Request{Op: AlarmSet, Key: "a", Value: []byte("p"), At: time.Now()}, OK, "")
	// The node claims the alarm, and is not heard of any more.
	var claimed time.Time
	testkit.Eventually(t, "the alarm is claimed", func() error {
		claimed = time.Now()
		res := dead.do(&Request{Plugin: "game", Op: opClaim, Limit: 1, Delta: 500, token: "dead"})
		if len(res.claims) != 1 {
			return fmt.Errorf("claimed %d alarms", len(res.claims))
		}
		return nil
	})
	_, list := schedule(t, live, "live", 0)
	if f := next(t, list); f.payload != "p" || time.Since(claimed) < 450*time.Millisecond {
		t.Errorf("got %+v after %v, want the alarm after the lease", f, time.Since(claimed))
	}
	testkit.Eventually(t, "the alarm has moved", func() error {
		if c := live.Counters(); c.Moved != 1 || c.Fired != 1 {
			return fmt.Errorf("got %+v, want one moved alarm", c)
		}
		return nil
	})
}

func TestTwoNodesShareAlarms(t *testing.T) {
	r := peers.StartRedis(t)
	a, b := openRedis(t, r.URL, Limits{}), openRedis(t, r.URL, Limits{})
	_, list := schedule(t, b, "b", 0)
	// A node without a schedule sets alarms: another node notices them in time.
	const n = 200
	for i := range n {
		at := time.Now().Add(time.Duration(i%20) * 50 * time.Millisecond)
		want(t, a, &Request{Op: AlarmSet, Key: fmt.Sprint(i), Value: []byte(at.Format(time.RFC3339Nano)), At: at}, OK, "")
	}
	seen, worst := map[string]int{}, time.Duration(0)
	for range n {
		f := next(t, list)
		at, _ := time.Parse(time.RFC3339Nano, f.payload)
		worst = max(worst, time.Since(at))
		seen[f.name]++
	}
	if len(seen) != n || worst > 2500*time.Millisecond {
		t.Errorf("%d of %d alarms fired, the latest %v late", len(seen), n, worst)
	}
}
