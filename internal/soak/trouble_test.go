//go:build soak

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// kind is a kind of fault.
type kind string

// The kinds of faults that may excuse the loss of something.
const (
	storeDown kind = "redis"            // the Redis of relay and near restarts, empty
	stateDown kind = "functions' redis" // restarts with what it has confirmed
	nearDown  kind = "near"
	farDown   kind = "far"
	linkBad   kind = "link"
	reloaded  kind = "reload" // excuses nothing
)

// incident is a fault.
type incident struct {
	kind     kind
	from, to time.Time // to is zero until the fault is mended
}

// during reports whether the fault may have had effects in a period.
func (i incident) during(from, to time.Time) bool {
	return to.After(i.from.Add(-transit)) && (i.to.IsZero() || from.Before(i.to.Add(settle)))
}

// trouble injects faults.
type trouble struct {
	s     *site
	scale func(time.Duration) time.Duration // of intervals
	kill  bool                              // whether nodes are killed, which need time to be removed from Redis

	reloads, restarts, stateRestarts, ends, kills, cuts, stalls, drained atomic.Int64

	turns [6]int // of the kinds of faults

	mu        sync.Mutex
	incidents []incident
	nearBusy  sync.Mutex // one fault of near at a time
}

// settle is the time after a restart of Redis in which members may be missing; transit is the time before its end in
// which an event may have been in flight.
const settle, transit = 2 * time.Second, 500 * time.Millisecond

// run injects all faults until ctx ends, and leaves none.
func (tr *trouble) run(ctx context.Context) {
	var all sync.WaitGroup
	s := tr.s
	all.Go(func() { tr.every(ctx, 8*time.Second, &tr.turns[0], tr.reload) })
	all.Go(func() { tr.every(ctx, 45*time.Second, &tr.turns[1], tr.restartStore) })
	all.Go(func() { tr.every(ctx, 31*time.Second, &tr.turns[2], tr.restartState) })
	all.Go(func() { tr.every(ctx, 29*time.Second, &tr.turns[3], func(n int) { tr.endNear(ctx, n) }) })
	all.Go(func() {
		tr.every(ctx, 37*time.Second, &tr.turns[4], func(n int) {
			if !tr.farIsKnown(ctx) {
				return
			}
			tr.endNode(ctx, s.far, farDown, s.farFile, tr.kill && n%2 == 1, tr.scale(9*time.Second))
		})
	})
	all.Go(func() { tr.every(ctx, 17*time.Second, &tr.turns[5], func(n int) { tr.link(ctx, n) }) })
	all.Wait()
}

// every injects a fault at intervals. A long run has the interval, a short one a part of it. turn counts on from play
// to play.
func (tr *trouble) every(ctx context.Context, interval time.Duration, turn *int, fault func(n int)) {
	for {
		testkit.Pause(ctx.Done(), tr.scale(interval))
		if ctx.Err() != nil {
			return
		}
		fault(*turn)
		*turn++
	}
}

// begin notes the beginning of a fault, and the returned function its end.
func (tr *trouble) begin(kind kind) (end func()) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	n := len(tr.incidents)
	tr.incidents = append(tr.incidents, incident{kind: kind, from: time.Now()})
	return func() {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.incidents[n].to = time.Now()
	}
}

// happened reports whether a fault of some kinds may have had effects in a period.
func (tr *trouble) happened(from, to time.Time, kinds ...kind) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.ContainsFunc(tr.incidents, func(i incident) bool {
		return i.during(from, to) && slices.Contains(kinds, i.kind)
	})
}

// near lists the faults shortly before and after a time. A failure is reported with them.
func (tr *trouble) near(at time.Time) string {
	const clock, around = "15:04:05.000", 10 * time.Second
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var list []string
	for _, i := range tr.incidents {
		end := "now"
		if !i.to.IsZero() {
			end = i.to.Format(clock)
		}
		if i.during(at.Add(-around), at.Add(around)) {
			list = append(list, fmt.Sprintf("%s %s-%s", i.kind, i.from.Format(clock), end))
		}
	}
	if len(list) == 0 {
		return "no fault near " + at.Format(clock)
	}
	return "faults near " + at.Format(clock) + ": " + strings.Join(list, ", ")
}

// reload replaces the configurations.
func (tr *trouble) reload(n int) {
	defer tr.begin(reloaded)()
	for r, file := range map[*peers.Relay]string{tr.s.relay: tr.s.file(n + 1), tr.s.ring: tr.s.ringFile(n + 1)} {
		if err := r.Load(file); err != nil {
			tr.s.fault("reload: %v", err)
			return
		}
	}
	tr.reloads.Add(1)
}

// restartStore kills Redis, which persists nothing, and starts it again.
func (tr *trouble) restartStore(int) {
	defer tr.begin(storeDown)()
	tr.s.store.Kill()
	testkit.Pause(nil, time.Second)
	tr.s.store.Restart()
	tr.well(tr.s.relay)
	tr.restarts.Add(1)
}

// restartState kills the Redis of the functions, which has every confirmed write on disk, and starts it again.
func (tr *trouble) restartState(int) {
	defer tr.begin(stateDown)()
	tr.s.state.Kill()
	testkit.Pause(nil, 300*time.Millisecond)
	tr.s.state.Restart()
	tr.stateRestarts.Add(1)
}

// well waits until a node reports a healthy channel layer.
func (tr *trouble) well(r *peers.Relay) {
	err := testkit.Poll(testkit.Patience, nil, func() error {
		_, err := get(r.Admin + "/edgerelay/health")
		return err
	})
	if err != nil {
		tr.s.fault("the channel layer is still unhealthy after the restart of Redis: %v", err)
	}
}

// endNear stops or kills the neighbor and starts it again, or drains it.
func (tr *trouble) endNear(ctx context.Context, n int) {
	tr.nearBusy.Lock()
	defer tr.nearBusy.Unlock()
	if n%3 == 1 {
		defer tr.begin(nearDown)()
		tr.drainNear()
		return
	}
	tr.endNode(ctx, tr.s.near, nearDown, tr.s.nearFile, tr.kill && n%3 == 2, tr.scale(7*time.Second))
}

// endNode stops a node, or kills it with kill -9, and starts it again after a pause.
func (tr *trouble) endNode(ctx context.Context, r *peers.Relay, kind kind, file func() string, kill bool,
	down time.Duration,
) {
	defer tr.begin(kind)()
	tr.s.end(r, true)
	if kill {
		r.Kill()
		tr.kills.Add(1)
	} else if err := r.Stop(tr.s.t, 30*time.Second); err != nil {
		tr.s.fault("%s ended with %v", kind, err)
	}
	testkit.Pause(ctx.Done(), down)
	r.Restart(file())
	tr.s.end(r, false)
	tr.ends.Add(1)
}

// farIsKnown waits until relay has reached the present run of far by its address, and reports whether that happened
// before ctx ended. Relay keeps the groups of any other run for ten minutes, in which it does not come to rest.
// See docs/decisions/backplane.md#how-are-events-in-flight-on-a-broken-link-sent-again
func (tr *trouble) farIsKnown(ctx context.Context) bool {
	return testkit.Poll(testkit.Patience, ctx.Done(), func() error {
		var here, there struct {
			Node  string
			Peers []struct{ Node string }
		}
		for r, view := range map[*peers.Relay]any{tr.s.relay: &here, tr.s.far: &there} {
			text, err := get(r.Admin + "/edgerelay/peers")
			if err == nil {
				err = json.Unmarshal([]byte(text), view)
			}
			if err != nil {
				return err
			}
		}
		if len(here.Peers) != 1 || here.Peers[0].Node != there.Node {
			return fmt.Errorf("relay knows %+v, not %s", here.Peers, there.Node)
		}
		return nil
	}) == nil
}

// link cuts the link of the backplane, or holds all bytes back for some seconds, in turn.
func (tr *trouble) link(ctx context.Context, n int) {
	defer tr.begin(linkBad)()
	proxy := tr.s.toFar
	if n%4 > 1 {
		proxy = tr.s.toRelay
	}
	if n%2 == 0 {
		proxy.Cut()
		tr.cuts.Add(1)
	} else {
		proxy.Stall()
		testkit.Pause(ctx.Done(), time.Duration(1+n%8)*time.Second)
		proxy.Resume()
		tr.stalls.Add(1)
	}
}

func (tr *trouble) work() []count {
	return []count{
		{name: "reloads", n: tr.reloads.Load()},
		{name: "restarts of Redis", n: tr.restarts.Load()},
		{name: "of the functions' Redis", n: tr.stateRestarts.Load()},
		{name: "ends of near and far", n: tr.ends.Load()},
		{name: "by kill -9", n: tr.kills.Load(), long: true},
		{name: "links cut", n: tr.cuts.Load()},
		{name: "links stalled", n: tr.stalls.Load(), long: true},
		{name: "clients drained from near", n: tr.drained.Load()},
	}
}
