package plugins

import (
	"errors"
	"runtime"
	"time"
)

// SourceHistory is the [Event] source of events that clients missed and get now.
const SourceHistory = "history"

// isReplay reports whether the event is of a replay.
func (ev *Event) isReplay() bool { return ev.Source == SourceHistory }

// ErrWithheld is returned by [Pipeline.Render] for an event of a replay that a plugin failed to render, see
// [OnErrorWithhold].
var ErrWithheld = errors.New("a plugin failed to process the event")

// Replay is Run for an event of the history, which clients that resume get. The event has SourceHistory then. It has no
// effect beyond its outputs: events that plugins emit to other groups are dropped, events of ticks wait for a live
// event, and shadows do not see it. Failures open circuit breakers for replays alone. [Pipeline.Render] knows the
// outputs. ErrClosed means that the pipeline has been closed; there are no outputs then.
//
// Calls for live events go first: after an event for which they had to wait, Replay pauses for as long as the event
// took.
func (p *Pipeline) Replay(ev Event, out []Output) (_ []Output, withheld bool, err error) {
	ev.Source = SourceHistory
	began := elapsed()
	for before := len(out); ; {
		current := p.routes.Load()
		rt := current.find(ev.Group)
		if len(rt.steps) == 0 {
			return append(out, unchanged(&ev)), false, nil
		}
		own := ev
		own.Group = rt.group
		t := p.newTraversal(current, rt, before)
		t.onWithheld = nil
		if out = t.walk(rt, 0, &own, subscribers{audience: allClasses}, 0, nil, out); !t.stale {
			rt.giveWay(time.Duration(elapsed() - began))
			return out, t.withheld, nil
		}
		if out = out[:before]; p.routes.Load() == current {
			return out, false, ErrClosed
		}
	}
}

// A replay pauses for at most maxGiveWay, since it must go on at last. A pause cannot be shorter than minGiveWay.
const (
	minGiveWay = 100 * time.Microsecond
	maxGiveWay = 10 * time.Millisecond
)

// giveWay pauses a replay whose last event took some time, if live calls wait for instances of the route.
func (rt *route) giveWay(took time.Duration) {
	for i := range rt.steps {
		m := rt.steps[i].serving(rt.group)
		if rt.steps[i].shadow || m == nil || m.slot(rt.hash).waiting.Load() == 0 {
			continue
		}
		if took >= minGiveWay {
			time.Sleep(min(took, maxGiveWay))
			return
		}
		for range 100 {
			if runtime.Gosched(); m.slot(rt.hash).waiting.Load() == 0 {
				return
			}
		}
	}
}

// unchanged returns an event without plugins as an Output.
func unchanged(ev *Event) Output {
	return Output{Group: ev.Group, Payload: ev.Payload, Audience: allClasses, Position: ev.Position}
}
