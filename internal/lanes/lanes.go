// Package lanes runs the plugins of package plugins in a [hub.Hub]: once per event, before the fan-out.
//
// Events of groups without plugins pass at once. All other events are queued in lanes: one for each list of plugins
// (plugins.Chain) and shard of the groups, with a goroutine of its own while it holds events. A slow plugin therefore
// delays its own groups, and neither those of other plugins nor the channel layer's reader. All events of a group use
// the same lane and keep their order, also when a change of the pipeline gives the group other plugins.
//
// The path of an event: [Lanes.Intercept] pushes it to the shard of its group (shard.go), where it waits in a lane
// (lane.go) for its turn with the lane's worker (worker.go). An event that cannot be queued, or has waited too long, is
// dropped and reported. fanout.go tells a slow plugin from a slow fan-out, and settlement.go follows changes.
package lanes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

	shards  []*shard
	loads   loads
	workers sync.WaitGroup
	// unsettled counts the shards that may hold events of groups in the lane of other plugins, or of groups without
	// plugins, after a change of the pipeline.
	unsettled atomic.Int32
	closed    atomic.Bool
	stop      sync.Once
	closing   chan struct{} // closed when Close begins

	// unrestricted is the last redaction of an event for all classes, which the events of a group share.
	unrestricted atomic.Pointer[relay.Redaction]

	dropped     atomic.Uint64
	withheld    atomic.Uint64
	droppedSlow atomic.Uint64

	replays, replaysFailed, replayed atomic.Uint64

	slowMu sync.Mutex       // guards slow
	slow   map[string]Queue // DroppedSlow and LastDroppedSlow, by plugin
}

var (
	_ relay.Interceptor  = (*Lanes)(nil)
	_ relay.Reclassifier = (*Lanes)(nil)
	_ relay.Replayer     = (*Lanes)(nil)
)

// Options are the optional settings of [New].
type Options struct {
	// Exempt names groups that no plugin sees, even if a pattern matches.
	Exempt []string
	// Losses is told about events that clients do not get because a plugin failed or was too slow.
	Losses relay.LossSink
	// Reclassify is called after a change of the plugins that classify subscriptions, see [hub.Hub.Reclassify].
	Reclassify func()
}

// New returns running Lanes. Events that have been through their plugins go to forward, see [hub.Hub.Forward]. The
// caller closes the Lanes.
func New(p *plugins.Pipeline, forward func([]relay.Event), o Options) *Lanes {
	ls := &Lanes{
		pipeline: p, forward: forward, exempt: o.Exempt, losses: o.Losses, loads: loads{byKey: map[string]*load{}},
		slow: map[string]Queue{}, closing: make(chan struct{}),
	}
	p.OnWithheld(func(group string, position plugins.Position) {
		ls.reportLoss(relay.LossPluginWithheld, group, 1, relay.Position(position))
	})
	if o.Reclassify != nil {
		p.OnReclassify(o.Reclassify)
	}
	for range runtime.GOMAXPROCS(0) {
		ls.shards = append(ls.shards, newShard(ls))
	}
	p.HandOver()
	p.HandleTicks(tickHandler{ls})
	return ls
}

// Intercept implements [relay.Interceptor]. It blocks while the lane of a group is full because the fan-out is slow,
// and never because a plugin is.
func (ls *Lanes) Intercept(events []relay.Event) []relay.Event {
	kept := 0
	for i := 0; i < len(events); {
		end := i + 1
		for end < len(events) && events[end].Group == events[i].Group && events[end].Control == nil {
			end++
		}
		if !ls.divert(events[i:end]) {
			if ls.pipeline.Observes() {
				ls.observe(events[i:end])
			}
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
	chain, hash := ls.pipeline.Chain(group)
	if chain == nil && ls.unsettled.Load() == 0 {
		return false
	}
	if slices.Contains(ls.exempt, group) {
		return false
	}
	return ls.shardOf(hash).push(run, nil, true)
}

// observe gives events that pass at once to shadows, which have no effect.
func (ls *Lanes) observe(run []relay.Event) {
	if run[0].Control != nil || slices.Contains(ls.exempt, run[0].Group) {
		return
	}
	for i := range run {
		ls.pipeline.Observe(pluginEvent(&run[i]))
	}
}

// pluginEvent returns an event as plugins see it.
func pluginEvent(ev *relay.Event) plugins.Event {
	return plugins.Event{
		Group: ev.Group, Payload: ev.Text, Source: ev.Source.String(), Sent: ev.Sent,
		Position: plugins.Position(ev.Position), Hops: relay.SenderHops(ev.Sender),
	}
}

// shardOf returns the shard of the groups with a hash, see [plugins.Pipeline.Chain].
func (ls *Lanes) shardOf(hash uint64) *shard { return ls.shards[hash%uint64(len(ls.shards))] }

// process takes an event through its plugins and appends the resulting events to out. outputs is scratch space.
func (ls *Lanes) process(
	l *lane, it *item, outputs []plugins.Output, out []relay.Event,
) ([]plugins.Output, []relay.Event) {
	ev := &it.ev
	if isResumption(ev) {
		outputs = ls.pipeline.Resume(ev.Group, outputs[:0])
		return outputs, ls.appendResults(l, out, outputs, &relay.Event{}, "")
	}
	source, withheld := ev.Source.String(), false
	if it.onward != nil {
		source = it.onward.Source
		outputs, withheld = ls.pipeline.Continue(it.onward, ev.Group, ev.Text, outputs[:0])
	} else {
		outputs, withheld = ls.pipeline.Run(pluginEvent(ev), outputs[:0])
	}
	switch {
	case len(outputs) > 0:
	case withheld:
		ls.withheld.Add(1)
		ev.Discard("withheld")
	default:
		ls.dropped.Add(1)
		ev.Discard("plugin")
	}
	return outputs, ls.appendResults(l, out, outputs, ev, source)
}

// appendResults appends the events that outputs of an original event become, and hands over those for other lanes.
// source is the original's for plugins, "" if there is none. l is the lane whose worker forwards the events, nil if
// there is none.
func (ls *Lanes) appendResults(
	l *lane, out []relay.Event, outputs []plugins.Output, original *relay.Event, source string,
) []relay.Event {
	var number parts
	for i := range outputs {
		o := &outputs[i]
		result := *original
		result.Group, result.Text, result.Position = o.Group, o.Payload, number.position(o.Position)
		if o.Onward != nil {
			out = ls.handOver(l, out, result, o.Onward, len(outputs))
			continue
		}
		if o.PerClass || o.Audience != ^uint64(0) || o.Generation != 0 {
			result.Redaction = ls.redaction(l, o, &result, source)
		}
		out = append(out, result)
	}
	return out
}

// handOver queues an event that a plugin has emitted in the lane of the event's group. A group that has lost its
// plugins gets the event at once. outputs is the number of the original's outputs.
func (ls *Lanes) handOver(
	l *lane, out []relay.Event, ev relay.Event, onward *plugins.Onward, outputs int,
) []relay.Event {
	ev.Redaction = nil
	if outputs > 1 { // the fate of one of them is not that of the original
		ev.Trace = nil
	}
	_, hash := ls.pipeline.Chain(ev.Group)
	if ls.shardOf(hash).push([]relay.Event{ev}, onward, false) {
		return out
	}
	results, _ := ls.pipeline.Continue(onward, ev.Group, ev.Text, nil)
	return ls.appendResults(l, out, results, &ev, onward.Source)
}

// redaction returns the redaction of an output, which has become ev. source is the original's for plugins.
func (ls *Lanes) redaction(l *lane, o *plugins.Output, ev *relay.Event, source string) *relay.Redaction {
	if !o.PerClass && o.Audience == ^uint64(0) {
		if r := ls.unrestricted.Load(); r != nil && r.Generation == o.Generation {
			return r
		}
		r := &relay.Redaction{Classes: o.Audience, Generation: o.Generation}
		ls.unrestricted.Store(r)
		return r
	}
	r := &relay.Redaction{Classes: o.Audience, Generation: o.Generation}
	switch {
	case !o.PerClass:
	case ev.Source == relay.FromHistory:
		ls.renderReplayed(r, o, ev)
	default:
		view := pluginEvent(ev)
		view.Source = source
		output := *o
		r.Render = func(class uint8) ([]byte, bool) {
			paused := l.pauseFanOut()
			rendered, ok, err := ls.pipeline.Render(class, view, &output)
			l.resumeFanOut(paused)
			switch {
			case errors.Is(err, plugins.ErrReclassified):
				ls.reportLoss(relay.LossReclassified, view.Group, 1, relay.Position(view.Position))
				return nil, false
			case err != nil: // a class that the hub does not know: withhold rather than guess
				ls.reportLoss(relay.LossPluginWithheld, view.Group, 1, relay.Position(view.Position))
				return nil, false
			}
			return rendered, ok
		}
	}
	return r
}

// Classify implements [relay.Interceptor] with the plugins' on_subscribe.
func (ls *Lanes) Classify(ctx context.Context, id relay.Identity, group string) (c relay.Classification, err error) {
	if !ls.pipeline.Matches(group) {
		return c, nil
	}
	user := []byte(id.Profile)
	if len(user) == 0 {
		if user, err = json.Marshal(struct {
			ID       json.RawMessage `json:"id"`
			Username string          `json:"username"`
		}{json.RawMessage(id.ID), id.Name}); err != nil {
			return c, fmt.Errorf("encode the user's id: %w", err)
		}
	}
	d, err := ls.pipeline.Subscribe(ctx, user, group)
	switch {
	case err != nil:
		return c, err
	case !d.Allow && d.Reason != "":
		return c, fmt.Errorf("%w by plugin %s: %s", relay.ErrDenied, d.Plugin, d.Reason)
	case !d.Allow:
		return c, fmt.Errorf("%w by plugin %s", relay.ErrDenied, d.Plugin)
	}
	return relay.Classification{Class: d.Class, Generation: d.Generation}, nil
}

// Generation implements [relay.Reclassifier]: it identifies the live modules with on_subscribe.
func (ls *Lanes) Generation(group string) uint64 { return ls.pipeline.Generation(group) }

// Apply makes specs the pipeline, see [plugins.Pipeline.Apply]. Events of groups whose plugins change keep their order.
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
// groups whose plugins change keep their order.
func (ls *Lanes) Install(prepared *plugins.Prepared) error {
	for _, s := range ls.shards {
		s.beginChange()
	}
	err := ls.pipeline.Install(prepared)
	for _, s := range ls.shards {
		s.endChange()
	}
	return err
}

// dropSlow drops events because a plugin is too slow.
func (ls *Lanes) dropSlow(plugin string, run []relay.Event) {
	for i := range run {
		run[i].Discard("plugin_slow")
	}
	ls.countSlow(plugin, run[0].Group, len(run), func(i int) relay.Position { return run[i].Position })
}

// countSlow counts and reports events of a group that were dropped because a plugin was too slow. position returns the
// position of each of them: clients that know positions learn which events they miss.
func (ls *Lanes) countSlow(plugin, group string, events int, position func(i int) relay.Position) {
	ls.droppedSlow.Add(uint64(events))
	ls.slowMu.Lock()
	q := ls.slow[plugin]
	q.DroppedSlow, q.LastDroppedSlow = q.DroppedSlow+uint64(events), time.Now()
	ls.slow[plugin] = q
	ls.slowMu.Unlock()
	unknown := 0
	for i := range events {
		if p := position(i); p.IsZero() {
			unknown++
		} else {
			ls.reportLoss(relay.LossPluginSlow, group, 1, p)
		}
	}
	if unknown > 0 {
		ls.reportLoss(relay.LossPluginSlow, group, unknown, relay.Position{})
	}
}

// reportLoss reports lost events of a group. position is that of a single event, zero if it is unknown.
func (ls *Lanes) reportLoss(cause relay.LossCause, group string, events int, position relay.Position) {
	if ls.losses != nil {
		ls.losses.Lost(relay.Loss{Cause: cause, Groups: []string{group}, Events: events, Position: position})
	}
}

// Close stops the lanes and drops the queued events.
func (ls *Lanes) Close() {
	ls.stop.Do(func() { close(ls.closing) })
	for _, s := range ls.shards {
		s.close()
	}
	ls.closed.Store(true)
	ls.workers.Wait()
}
