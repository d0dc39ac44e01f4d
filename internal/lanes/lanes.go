// Package lanes runs the plugins of package plugins in a [hub.Hub]: once per event, before the fan-out.
//
// Events of groups without plugins pass at once. All other events are queued in lanes, each with a goroutine of its
// own. A slow plugin therefore delays its own groups and not the channel layer's reader. All events of a group use
// the same lane and keep their order.
package lanes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

// Lanes is the [relay.Interceptor] for a pipeline of plugins. Methods are safe for concurrent use.
// See docs/decisions/plugins.md#why-do-events-with-plugins-go-through-lanes
type Lanes struct {
	pipeline *plugins.Pipeline
	forward  func([]relay.Event)
	exempt   []string
	losses   relay.LossSink // nil: losses are only counted

	seed    maphash.Seed
	lanes   []*lane
	workers sync.WaitGroup
	// unsettled counts the lanes that may hold events of groups without plugins, after a change of the pipeline.
	unsettled atomic.Int32

	dropped     atomic.Uint64
	withheld    atomic.Uint64
	droppedSlow atomic.Uint64
}

var _ relay.Interceptor = (*Lanes)(nil)

// Options are the optional settings of [New].
type Options struct {
	// Exempt names groups that no plugin sees, even if a pattern matches.
	Exempt []string
	// Losses is told about events that clients do not get because a plugin failed or was too slow.
	Losses relay.LossSink
}

// New returns running Lanes. Events that have been through their plugins go to forward, see [hub.Hub.Forward]. The
// caller closes the Lanes.
func New(p *plugins.Pipeline, forward func([]relay.Event), o Options) *Lanes {
	ls := &Lanes{
		pipeline: p, forward: forward, exempt: o.Exempt, losses: o.Losses, seed: maphash.MakeSeed(),
	}
	p.OnWithheld(func(group string) { ls.reportLoss(relay.LossPluginWithheld, group, 1) })
	for range runtime.GOMAXPROCS(0) {
		l := newLane(ls)
		ls.lanes = append(ls.lanes, l)
		ls.workers.Go(l.run)
	}
	return ls
}

// Intercept implements [relay.Interceptor]. While the lane of a group is full, Intercept blocks for a bounded time.
func (ls *Lanes) Intercept(events []relay.Event) []relay.Event {
	kept := 0
	for i := 0; i < len(events); {
		end := i + 1
		for end < len(events) && events[end].Group == events[i].Group && events[end].Control == nil {
			end++
		}
		if !ls.divert(events[i:end]) {
			if kept != i {
				copy(events[kept:], events[i:end])
			}
			kept += end - i
		}
		i = end
	}
	return events[:kept]
}

// divert hands a run of events of a group to the group's lane, and reports whether the lane took the events.
func (ls *Lanes) divert(run []relay.Event) bool {
	group := run[0].Group
	if run[0].Control != nil {
		return false
	}
	if !ls.pipeline.Matches(group) && ls.unsettled.Load() == 0 {
		return false
	}
	if slices.Contains(ls.exempt, group) {
		return false
	}
	return ls.lane(group).push(run)
}

func (ls *Lanes) lane(group string) *lane {
	return ls.lanes[maphash.String(ls.seed, group)%uint64(len(ls.lanes))]
}

// process takes an event through its plugins and appends the resulting events to out. outputs is scratch space.
func (ls *Lanes) process(
	ev *relay.Event, outputs []plugins.Output, out []relay.Event,
) ([]plugins.Output, []relay.Event) {
	outputs, withheld := ls.pipeline.Run(plugins.Event{
		Group: ev.Group, Payload: ev.Text, Source: ev.Source.String(), Sent: ev.Sent,
	}, outputs[:0])
	switch {
	case len(outputs) > 0:
	case withheld:
		ls.withheld.Add(1)
		ev.Discard("withheld")
	default:
		ls.dropped.Add(1)
		ev.Discard("plugin")
	}
	for i := range outputs {
		o := &outputs[i]
		result := *ev
		result.Group, result.Text = o.Group, o.Payload
		if o.PerClass || o.Audience != ^uint64(0) {
			result.Redaction = ls.redaction(o, ev)
		}
		out = append(out, result)
	}
	return outputs, out
}

// redaction returns the redaction of an output of an event.
func (ls *Lanes) redaction(o *plugins.Output, ev *relay.Event) *relay.Redaction {
	r := &relay.Redaction{Classes: o.Audience}
	if o.PerClass {
		view := plugins.Event{Group: o.Group, Payload: o.Payload, Source: ev.Source.String(), Sent: ev.Sent}
		r.Render = func(class uint8) ([]byte, bool) {
			rendered, ok, err := ls.pipeline.Render(class, view)
			if err != nil { // a class that the hub does not know: withhold rather than guess
				ls.reportLoss(relay.LossPluginWithheld, view.Group, 1)
				return nil, false
			}
			return rendered, ok
		}
	}
	return r
}

// Classify implements [relay.Interceptor] with the plugins' on_subscribe.
func (ls *Lanes) Classify(ctx context.Context, id relay.Identity, group string) (uint8, error) {
	if !ls.pipeline.Matches(group) {
		return 0, nil
	}
	user := []byte(id.Profile)
	if len(user) == 0 {
		var err error
		if user, err = json.Marshal(struct {
			ID       json.RawMessage `json:"id"`
			Username string          `json:"username"`
		}{json.RawMessage(id.ID), id.Name}); err != nil {
			return 0, fmt.Errorf("encode the user's id: %w", err)
		}
	}
	d, err := ls.pipeline.Subscribe(ctx, user, group)
	switch {
	case err != nil:
		return 0, err
	case !d.Allow && d.Reason != "":
		return 0, fmt.Errorf("%w by plugin %s: %s", relay.ErrDenied, d.Plugin, d.Reason)
	case !d.Allow:
		return 0, fmt.Errorf("%w by plugin %s", relay.ErrDenied, d.Plugin)
	}
	return d.Class, nil
}

// Apply makes specs the pipeline, see [plugins.Pipeline.Apply]. Events of groups that lose their plugins keep their
// order.
func (ls *Lanes) Apply(ctx context.Context, specs []plugins.Spec) error {
	prepared, err := ls.pipeline.PrepareAll(ctx, specs)
	if err != nil {
		return err
	}
	defer prepared.Close()
	for {
		if err = ls.Install(prepared); !errors.Is(err, plugins.ErrOutdated) {
			return err
		}
		if err = prepared.Refresh(ctx); err != nil {
			return err
		}
	}
}

// Install makes prepared plugins a part of the pipeline, or the whole of it, see [plugins.Pipeline.Install]. Events of
// groups that lose their plugins keep their order.
func (ls *Lanes) Install(prepared *plugins.Prepared) error {
	for _, l := range ls.lanes {
		l.beginChange()
	}
	err := ls.pipeline.Install(prepared)
	for _, l := range ls.lanes {
		l.endChange()
	}
	return err
}

// dropSlow drops events because the plugins of a full lane are too slow.
func (ls *Lanes) dropSlow(run []relay.Event) {
	ls.droppedSlow.Add(uint64(len(run)))
	for i := range run {
		run[i].Discard("plugin_slow")
	}
	ls.reportLoss(relay.LossPluginSlow, run[0].Group, len(run))
}

func (ls *Lanes) reportLoss(cause relay.LossCause, group string, events int) {
	if ls.losses != nil {
		ls.losses.Lost(relay.Loss{Cause: cause, Groups: []string{group}, Events: events})
	}
}

// Stats are counters since the start, and the current length of the queues.
type Stats struct {
	Queued      int    // events that wait for their plugins
	Dropped     uint64 // events that plugins dropped
	Withheld    uint64 // events without any output because a plugin could not process them
	DroppedSlow uint64 // events dropped because the plugins of their lane were too slow
}

// Stats returns a snapshot.
func (ls *Lanes) Stats() Stats {
	s := Stats{Dropped: ls.dropped.Load(), Withheld: ls.withheld.Load(), DroppedSlow: ls.droppedSlow.Load()}
	for _, l := range ls.lanes {
		s.Queued += l.queueLength()
	}
	return s
}

// Close stops the lanes and drops the queued events.
func (ls *Lanes) Close() {
	for _, l := range ls.lanes {
		l.close()
	}
	ls.workers.Wait()
}
