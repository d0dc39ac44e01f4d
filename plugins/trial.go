package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// scratchEnvironment returns an environment for trials, which leave no trace in the plugin's own.
func scratchEnvironment(log *logbook, kv int, now func() time.Time) *environment {
	return &environment{log: log, metrics: &counters{}, kv: newStore(kv, now), now: now, random: newTrialRandom()}
}

// Trace is the result of a call in a [Trial].
type Trace struct {
	Hook    Hook
	Verdict Verdict
	// Outputs are the event's own output, if there is one, and then the emitted events. An empty group is the event's
	// own.
	Outputs []Output
	// Class is the class that OnSubscribe named, 0 by default. Reason is that of a denial.
	Class  uint8
	Reason string
	// Effects are those of the call outside the pipeline. Attachment is the connection's after the call, and
	// Status is the HTTP status of a rejection by OnConnect.
	Effects    []Effect
	Attachment string
	Status     int
	// Err is the failure, with Verdict Failed. OnError decides about such an event, so it has no Outputs here.
	Err error
	// Fuel is the number of units spent.
	Fuel int64
	// Duration of the call.
	Duration time.Duration
	// Memory is the size of the instance's linear memory after the call, in bytes.
	Memory uint64
}

// emitted returns the emitted events.
func (t *Trace) emitted() []Output {
	if len(t.Outputs) > 0 && t.Hook != OnTick && (t.Verdict == Pass || t.Verdict == Replace) {
		return t.Outputs[1:]
	}
	return t.Outputs
}

// ErrNoHook is the error of a call of a hook that the module does not export.
var ErrNoHook = errors.New("the module does not export the hook")

// trialRun calls the hooks of a module in an instance and an environment of its own, one after another. After a
// failure that discards an instance, the next call has a new instance.
type trialRun struct {
	ctx      context.Context // ends the calls
	m        *module
	env      *environment
	clock    time.Time // of the plugin; zero: the real time
	instance *instance // nil before the first call, and after a failure

	connections map[string]*Connection // by the clients of samples
	requests    []*pending             // of the last call of a function
	answer      *pending               // the request that the next on_result answers; nil: that of the sample
	replies     dialogue
}

// newTrialRun returns a run whose log lines go to log. The first call starts the instance.
func newTrialRun(ctx context.Context, m *module, log *logbook, now func() time.Time) *trialRun {
	r := &trialRun{ctx: ctx, m: m}
	r.env = scratchEnvironment(log, m.spec.KV, func() time.Time {
		if r.clock.IsZero() {
			return now()
		}
		return r.clock
	})
	return r
}

func (r *trialRun) close() {
	if r.instance != nil {
		r.instance.close()
		r.instance = nil
	}
}

// call calls the sample's hook.
func (r *trialRun) call(s *Sample) (t Trace) {
	t.Hook = s.hook()
	if err := s.check(); err != nil {
		return t.failed(err)
	}
	if !s.Clock.IsZero() {
		r.clock = s.Clock
	}
	if r.m.hooks&t.Hook == 0 {
		return t.failed(fmt.Errorf("%w ev_%s", ErrNoHook, t.Hook))
	}
	if r.instance == nil {
		var err error
		if r.instance, err = r.m.instantiate(r.ctx, r.env); err != nil {
			return t.failed(err)
		}
	}
	in := r.instance
	start := time.Now()
	in.limits.caller = r.ctx
	var f *Failure
	if t.Hook&ofFunctions != 0 {
		f = r.tryFunction(s, &t)
	} else {
		f = in.try(s, &t)
	}
	t.Duration = time.Since(start)
	t.Memory = uint64(in.mem.Size())
	t.Fuel = in.takeSpentFuel()
	if f == nil {
		return t
	}
	f.Plugin = r.m.spec.Name
	if !f.intact {
		r.close()
	}
	return t.failed(f)
}

func (t *Trace) failed(err error) Trace {
	t.Verdict, t.Err, t.Outputs, t.Effects = Failed, err, nil, nil
	return *t
}

// try calls the sample's hook and sets the result.
func (in *instance) try(s *Sample, t *Trace) *Failure {
	var res result
	position, _ := ParsePosition(s.Position) // the sample has been checked
	ev := Event{Group: s.Group, Payload: s.payload(), Source: s.Source, Sent: s.Sent, Position: position}
	switch t.Hook {
	case OnSubscribe:
		return in.trySubscribe(s, t)
	case OnClass:
		if f := in.class(*s.Class, &ev, &res); f != nil {
			return f
		}
		res.audience = allClasses
	case OnTick:
		if f := in.tick(&res); f != nil {
			return f
		}
		for _, e := range res.emits {
			t.Outputs = append(t.Outputs, Output{Group: e.group, Payload: e.payload, Audience: e.audience, Position: e.position})
		}
		t.Effects = res.effects.list()
		return nil
	default:
		if f := in.event(&ev, 0, nil, &res); f != nil {
			return f
		}
	}
	t.Verdict, t.Effects = res.verdict, res.effects.list()
	switch res.verdict {
	case Pass:
		t.Outputs = append(t.Outputs, Output{Payload: ev.Payload, Audience: res.audience})
	case Replace:
		t.Outputs = append(t.Outputs, Output{Payload: res.payload, Audience: res.audience})
	}
	for _, e := range res.emits {
		t.Outputs = append(t.Outputs, Output{Group: e.group, Payload: e.payload, Audience: e.audience, Position: e.position})
	}
	return nil
}

func (in *instance) trySubscribe(s *Sample, t *Trace) *Failure {
	request, err := subscribeRequest(s.User, s.Group)
	if err != nil {
		return in.fail(KindText, exportOnSubscribe, "%w", err)
	}
	d, _, f := in.subscribe(in.limits.caller, request)
	t.Verdict, t.Class, t.Reason = Deny, d.Class, d.Reason
	if d.Allow {
		t.Verdict = Allow
	}
	return f
}

// trySamples compares the results of the golden samples with the expected ones, in a scratch environment. All samples
// run in one instance, in order.
func (m *module) trySamples(ctx context.Context, now func() time.Time) error {
	if len(m.spec.Samples) == 0 {
		return nil
	}
	run := newTrialRun(ctx, m, m.env.log, now)
	defer run.close()
	for i := range m.spec.Samples {
		s := &m.spec.Samples[i]
		t := run.call(s)
		if err := ctx.Err(); err != nil { // before a sample takes the end of the call for an expected error
			return fmt.Errorf("sample %d: %w", i+1, err)
		}
		if err := s.Compare(&t); err != nil {
			if s.Group == "" {
				return fmt.Errorf("sample %d (%s): %w", i+1, t.Hook, err)
			}
			return fmt.Errorf("sample %d (%s): %w", i+1, s.Group, err)
		}
	}
	return nil
}

// Trial runs a plugin outside a pipeline, for `plugin test`. The plugin's store and the state of its instance last
// from call to call. A Trial is not safe for concurrent use.
type Trial struct {
	m    *module
	host *host
	run  *trialRun
}

// Try loads a plugin for a trial. The plugin's log lines go to o.Logger. The caller closes the Trial.
func Try(ctx context.Context, o Options, spec Spec) (_ *Trial, err error) {
	setDefault(&o.startWait, time.Minute) // a trial holds up no other events
	p, err := New(o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = p.Close()
		}
	}()
	spec.Instances = 1
	if spec, err = spec.withDefaults(); err != nil {
		return nil, err
	}
	// The instance that the load starts is not the one of the calls, whose first sample may set the clock.
	silent := newLogbook(slog.New(slog.DiscardHandler), spec.Name, p.host.now)
	m, err := p.host.load(ctx, spec, scratchEnvironment(silent, spec.KV, p.host.now))
	if err != nil {
		return nil, err
	}
	log := newLogbook(p.host.logger, spec.Name, time.Now)
	return &Trial{m, p.host, newTrialRun(context.Background(), m, log, p.host.now)}, nil
}

// Hooks returns the hooks that the module exports.
func (t *Trial) Hooks() Hook { return t.m.hooks }

// Reset discards the instance, the store and the counters. clock is the time that the plugin sees until a sample sets
// another; zero is the real time.
func (t *Trial) Reset(clock time.Time) {
	t.run.close()
	t.run = newTrialRun(t.run.ctx, t.m, t.run.env.log, t.host.now)
	t.run.clock = clock
}

// Run calls the sample's hook. The sample's expectations have no effect; see [Sample.Compare].
func (t *Trial) Run(s *Sample) Trace { return t.run.call(s) }

// Event takes an event through the plugin.
func (t *Trial) Event(ev Event) Trace {
	text := string(ev.Payload)
	return t.run.call(&Sample{
		Hook: OnEvent, Group: ev.Group, Text: &text, Source: ev.Source, Sent: ev.Sent, Position: ev.Position.String(),
	})
}

// Close frees the plugin.
func (t *Trial) Close() {
	t.run.close()
	t.m.close()
}
