package lanes

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// Replay implements [relay.Replayer]. The events do not queue behind live ones, and each waits only for calls in
// flight; live events go first at the next call. Of each chain and shard, one replay runs at a time. See
// docs/decisions/plugins.md#why-do-replays-use-the-live-instances
func (ls *Lanes) Replay(
	ctx context.Context, events []relay.Event,
) (out []relay.Event, withheld []relay.Position, err error) {
	if len(events) == 0 {
		return nil, nil, nil
	}
	group := events[0].Group
	chain, hash := ls.pipeline.Chain(group)
	if chain == nil || slices.Contains(ls.exempt, group) {
		return passReplayed(events), nil, nil
	}
	// On a goroutine, since a call in flight does not end with ctx: the instance would be lost for live events.
	r := &replay{events: events, ended: make(chan struct{})}
	if err = ls.shardOf(hash).startReplay(ctx, chain, r); err == nil {
		select {
		case <-r.ended:
			out, withheld, err = r.out, r.withheld, r.err
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	if err != nil {
		ls.replaysFailed.Add(1)
		return nil, nil, fmt.Errorf("replay events of %s through the plugins: %w", group, err)
	}
	ls.replays.Add(1)
	ls.replayed.Add(uint64(len(events)))
	return out, withheld, nil
}

// passReplayed returns events that no plugin processes.
func passReplayed(events []relay.Event) []relay.Event {
	out := slices.Clone(events)
	for i := range out {
		out[i].Source, out[i].Redaction, out[i].Trace = relay.FromHistory, nil, nil
	}
	return out
}

// replay is a call of Replay.
type replay struct {
	events []relay.Event
	ended  chan struct{} // closed when the fields below are set
	out    []relay.Event
	// withheld are the positions of events that a plugin failed to process.
	withheld []relay.Position
	err      error
}

// replayTurn serializes the replays of a chain in a shard.
type replayTurn struct {
	taken chan struct{} // holds a value while a replay is in progress
	users int           // guarded by the shard's lock
}

// startReplay runs a replay on a goroutine, once the earlier ones of the chain have ended.
func (s *shard) startReplay(ctx context.Context, chain *plugins.Chain, r *replay) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == shardClosed {
		return plugins.ErrClosed
	}
	turn := s.replays[chain.Key()]
	if turn == nil {
		turn = &replayTurn{taken: make(chan struct{}, 1)}
		s.replays[chain.Key()] = turn
	}
	turn.users++
	s.lanes.workers.Go(func() {
		defer close(r.ended)
		defer s.leaveTurn(chain.Key(), turn)
		select {
		case turn.taken <- struct{}{}:
			r.err = s.lanes.replayAll(ctx, s, r)
			<-turn.taken
		case <-ctx.Done():
			r.err = context.Cause(ctx)
		case <-s.lanes.closing:
			r.err = plugins.ErrClosed
		}
	})
	return nil
}

func (s *shard) leaveTurn(key string, turn *replayTurn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if turn.users--; turn.users == 0 {
		delete(s.replays, key)
	}
}

// replayAll takes the events of a replay through their plugins, one after another.
func (ls *Lanes) replayAll(ctx context.Context, s *shard, r *replay) error {
	var outputs []plugins.Output
	for i := range r.events {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ls.closing:
			return plugins.ErrClosed
		default:
		}
		ev := r.events[i]
		ev.Source, ev.Redaction, ev.Trace = relay.FromHistory, nil, nil
		var withheld bool
		var err error
		if outputs, withheld, err = ls.pipeline.Replay(pluginEvent(&ev), outputs[:0]); err != nil {
			return err
		}
		if withheld {
			r.withheld = append(r.withheld, ev.Position)
		}
		r.out = ls.appendResults(nil, r.out, outputs, &ev, plugins.SourceHistory)
	}
	return nil
}

// renderReplayed sets the functions of a redaction of an event of a replay. Failures are no losses, since the clients
// of live events miss nothing.
func (ls *Lanes) renderReplayed(r *relay.Redaction, o *plugins.Output, ev *relay.Event) {
	view, output := pluginEvent(ev), *o
	failed := new(atomic.Uint64) // by class
	r.Render = func(class uint8) ([]byte, bool) {
		rendered, ok, err := ls.pipeline.Render(class, view, &output)
		if err != nil {
			failed.Or(1 << class)
			return nil, false
		}
		return rendered, ok
	}
	r.Failed = func(class uint8) bool { return failed.Load()&(1<<class) != 0 }
}

// parts numbers the events that plugins have made of one event for its group.
type parts struct {
	of   plugins.Position // of the last event with a position
	next uint16
}

// position returns the position of the next event, of which of is that of the original.
func (n *parts) position(of plugins.Position) relay.Position {
	if of.IsZero() {
		return relay.Position{}
	}
	if of != n.of {
		*n = parts{of: of}
	}
	p := relay.Position(of)
	p.Part = n.next
	n.next++
	return p
}
