// Package filter runs the plugins of package plugins in a [relay.Hub]: each event once, before the fan-out.
//
// Events of groups without plugins go on at once. The others go through lanes, one goroutine each, so that what a plugin takes is
// taken from its own groups and not from the channel layer's reader. All events of a group use one lane and keep their order.
package lanes

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
)

// Filter is the [relay.Interceptor] that a pipeline of plugins makes. Its methods are safe for concurrent use.
type Filter struct {
	pipeline *plugins.Pipeline
	forward  func([]relay.Event)
	seed     maphash.Seed
	lanes    []*lane
	workers  sync.WaitGroup
	// settling counts the lanes that may hold events of groups which have no plugins any more.
	settling atomic.Int32
	dropped  atomic.Uint64
	withheld atomic.Uint64
	overrun  atomic.Uint64
	lost     relay.LossSink // nil: losses are only counted
}

var _ relay.Interceptor = (*Filter)(nil)

// New returns a running Filter. What comes out of its plugins goes to forward, see [relay.Hub.Forward]. Close it after use.
func New(p *plugins.Pipeline, forward func([]relay.Event)) *Filter {
	f := &Filter{pipeline: p, forward: forward, seed: maphash.MakeSeed()}
	p.OnWithheld(func(group string) { f.lose(relay.LossPluginWithheld, group, 1) })
	for range runtime.GOMAXPROCS(0) {
		l := newLane(f)
		f.lanes = append(f.lanes, l)
		f.workers.Go(l.run)
	}
	return f
}

// ReportLosses makes the losses of slow plugins known to sink. It is called before the first event comes.
func (f *Filter) ReportLosses(sink relay.LossSink) { f.lost = sink }

// Intercept implements [relay.Interceptor]. It waits while the lane of a group is full, but not long for plugins.
func (f *Filter) Intercept(events []relay.Event) []relay.Event {
	kept := 0
	for i := 0; i < len(events); {
		end := i + 1
		for end < len(events) && events[end].Group == events[i].Group && events[end].Control == nil {
			end++
		}
		if !f.divert(events[i:end]) {
			if kept != i {
				copy(events[kept:], events[i:end])
			}
			kept += end - i
		}
		i = end
	}
	return events[:kept]
}

// divert gives a run of events of one group to its lane, if they have to go there.
func (f *Filter) divert(run []relay.Event) bool {
	group := run[0].Group
	if run[0].Control != nil || group == awx.BroadcastGroup {
		return false
	}
	if !f.pipeline.Matches(group) && f.settling.Load() == 0 {
		return false
	}
	return f.lane(group).push(run)
}

func (f *Filter) lane(group string) *lane {
	return f.lanes[maphash.String(f.seed, group)%uint64(len(f.lanes))]
}

// process takes an event through its plugins and appends what comes out of them to out.
func (f *Filter) process(ev *relay.Event, outputs []plugins.Output, out []relay.Event) ([]plugins.Output, []relay.Event) {
	outputs, withheld := f.pipeline.Run(ev.Group, ev.Text, outputs[:0])
	switch {
	case len(outputs) > 0:
	case withheld:
		f.withheld.Add(1)
		ev.Discard("withheld")
	default:
		f.dropped.Add(1)
		ev.Discard("plugin")
	}
	for i := range outputs {
		o := &outputs[i]
		result := *ev
		result.Group, result.Text = o.Group, o.Payload
		if o.PerClass || o.Audience != ^uint64(0) {
			result.Redaction = f.redaction(o)
		}
		out = append(out, result)
	}
	return outputs, out
}

func (f *Filter) redaction(o *plugins.Output) *relay.Redaction {
	r := &relay.Redaction{Classes: o.Audience}
	if o.PerClass {
		group, payload := o.Group, o.Payload
		r.Render = func(class uint8) ([]byte, bool) { return f.pipeline.Render(class, group, payload) }
	}
	return r
}

// Classify implements [relay.Interceptor] by the plugins' on_subscribe.
func (f *Filter) Classify(ctx context.Context, id relay.Identity, group string) (uint8, error) {
	if !f.pipeline.Matches(group) {
		return 0, nil
	}
	user := []byte(id.Profile)
	if len(user) == 0 {
		var err error
		if user, err = json.Marshal(struct {
			ID       json.RawMessage `json:"id"`
			Username string          `json:"username"`
		}{json.RawMessage(id.ID), id.Name}); err != nil {
			return 0, fmt.Errorf("the user's id is not JSON: %w", err)
		}
	}
	d, err := f.pipeline.Subscribe(ctx, user, group)
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

// Apply makes specs the pipeline, see [plugins.Pipeline.Apply]. Events of groups that lose their plugins keep their order.
func (f *Filter) Apply(ctx context.Context, specs []plugins.Spec) error {
	for _, l := range f.lanes {
		l.unsettle()
	}
	err := f.pipeline.Apply(ctx, specs)
	for _, l := range f.lanes {
		l.settle()
	}
	return err
}

// Waiting is how many events wait for their plugins.
func (f *Filter) Waiting() (events int) {
	for _, l := range f.lanes {
		events += l.waiting()
	}
	return events
}

// overflow drops events that find their lane full, because its plugins are too slow.
func (f *Filter) overflow(run []relay.Event) {
	f.overrun.Add(uint64(len(run)))
	for i := range run {
		run[i].Discard("plugin_slow")
	}
	f.lose(relay.LossPluginSlow, run[0].Group, len(run))
}

// lose makes it known that clients of a group do not get events.
func (f *Filter) lose(cause relay.LossCause, group string, events int) {
	if f.lost != nil {
		f.lost.Lost(relay.Loss{Cause: cause, Groups: []string{group}, Events: events})
	}
}

// Overrun is how many events were dropped because plugins of their lane were too slow for what came.
func (f *Filter) Overrun() uint64 { return f.overrun.Load() }

// Dropped is how many events plugins have dropped.
func (f *Filter) Dropped() uint64 { return f.dropped.Load() }

// Withheld is how many events came to nothing because a plugin could not process them.
func (f *Filter) Withheld() uint64 { return f.withheld.Load() }

// Close stops the lanes; what waits in them is dropped.
func (f *Filter) Close() {
	for _, l := range f.lanes {
		l.close()
	}
	f.workers.Wait()
}
