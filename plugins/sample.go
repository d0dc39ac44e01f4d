package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// scratchEnvironment returns an environment for trials, which leave no trace in the plugin's own.
func scratchEnvironment(log *logbook, kv int, now func() time.Time) *environment {
	return &environment{log: log, metrics: &counters{}, kv: newStore(kv, now), now: now}
}

// trySamples starts an instance in a scratch environment and compares its results with the golden samples.
func (m *module) trySamples() error {
	if len(m.spec.Samples) == 0 {
		return nil
	}
	in, err := m.instantiate(context.Background(), scratchEnvironment(m.env.log, m.spec.KV, m.env.now))
	if err != nil {
		return err
	}
	defer in.close()
	if in.onEvent == nil {
		return errors.New("try the samples: the module does not export ev_on_event")
	}
	for i, s := range m.spec.Samples {
		if err := in.trySample(&s); err != nil {
			return fmt.Errorf("sample %d (%s): %w", i+1, s.Group, err)
		}
	}
	return nil
}

func (in *instance) trySample(s *Sample) error {
	var res result
	if f := in.event(&Event{Group: s.Group, Payload: s.Payload}, 0, &res); f != nil {
		return f
	}
	if s.Verdict != "" && s.Verdict != res.verdict.String() {
		return fmt.Errorf("verdict %s, want %s", res.verdict, s.Verdict)
	}
	if len(s.Output) > 0 && !sameJSON(s.Output, res.payload) {
		return fmt.Errorf("output %.200q, want %.200q", res.payload, s.Output)
	}
	return s.compareEmits(res.emits)
}

func (s *Sample) compareEmits(got []emission) error {
	if len(s.Emits) == 0 {
		return nil
	}
	if len(got) != len(s.Emits) {
		return fmt.Errorf("%d events emitted, want %d", len(got), len(s.Emits))
	}
	for i, want := range s.Emits {
		if got[i].group != want.Group || !sameJSON(want.Payload, got[i].payload) {
			return fmt.Errorf("emitted %.200q to %q, want %.200q to %q",
				got[i].payload, got[i].group, want.Payload, want.Group)
		}
	}
	return nil
}

// sameJSON compares two JSON texts without the space between tokens, and other texts byte by byte.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	if json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}

// Trace is the result of an event in a [Trial].
type Trace struct {
	Verdict Verdict
	// Outputs are the event's own output, if there is one, and then the emitted events. An empty group is the event's
	// own.
	Outputs []Output
	// Err is the failure, with Verdict Failed. OnError decides about such an event, so it has no Outputs here.
	Err error
	// Fuel is the number of units spent.
	Fuel int64
	// Duration of the call.
	Duration time.Duration
	// Memory is the size of the instance's linear memory after the call, in bytes.
	Memory uint64
}

// Trial runs a plugin outside a pipeline, for `plugin test`. A Trial is not safe for concurrent use.
type Trial struct {
	m    *module
	host *host
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
	log := newLogbook(p.host.logger, spec.Name, p.host.now)
	m, err := p.host.load(ctx, spec, scratchEnvironment(log, spec.KV, p.host.now))
	if err != nil {
		return nil, err
	}
	return &Trial{m, p.host}, nil
}

// Event takes an event through the plugin.
func (t *Trial) Event(ev Event) (tr Trace) {
	key := breakerKey{hook: OnEvent, group: ev.Group}
	s, err := t.m.acquire(key, 0)
	if err == nil {
		err = t.event(s, key, &ev, &tr)
	}
	if err != nil {
		tr.Verdict, tr.Err, tr.Outputs = Failed, err, nil
		s = &t.m.slots[0]
		s.breakers.succeeded(key) // keeps the breaker closed: a trial calls the plugin for every event
	}
	return tr
}

func (t *Trial) event(s *slot, key breakerKey, ev *Event, tr *Trace) error {
	in := s.instance
	if in.onEvent == nil {
		return t.m.release(s, key, in.fail(KindResult, exportOnEvent, "not exported"))
	}
	var res result
	start := time.Now()
	f := in.event(ev, 0, &res)
	tr.Duration = time.Since(start)
	tr.Memory = uint64(in.mem.Size())
	tr.Fuel = in.budget - in.fuelLeft()
	tr.Verdict = res.verdict
	switch res.verdict {
	case Pass:
		tr.Outputs = append(tr.Outputs, Output{Payload: ev.Payload, Audience: res.audience})
	case Replace:
		tr.Outputs = append(tr.Outputs, Output{Payload: res.payload, Audience: res.audience})
	}
	for _, e := range res.emits {
		tr.Outputs = append(tr.Outputs, Output{Group: e.group, Payload: e.payload, Audience: e.audience})
	}
	return t.m.release(s, key, f)
}

// Close frees the plugin.
func (t *Trial) Close() {
	t.m.close()
	_ = t.host.cache.Close(context.Background())
}
