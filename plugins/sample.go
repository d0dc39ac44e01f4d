package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// scratch is an environment for trials: what a guest does there leaves no trace.
func (h *host) scratch(spec Spec) *environment {
	return &environment{
		log:     newLogbook(slog.New(slog.NewTextHandler(io.Discard, nil)), spec.Name, h.now),
		metrics: &counters{}, kv: newStore(spec.KV, h.now), now: h.now,
	}
}

// trySamples starts one instance in a scratch environment and holds it to the golden samples.
func (m *module) trySamples() error {
	if len(m.spec.Samples) == 0 {
		return nil
	}
	scratch := &environment{log: m.env.log, metrics: &counters{}, kv: newStore(m.spec.KV, m.env.now), now: m.env.now}
	in, err := m.instantiate(context.Background(), scratch)
	if err != nil {
		return err
	}
	defer in.close()
	if in.onEvent == nil {
		return fmt.Errorf("there are samples, and no ev_on_event to try them on")
	}
	for i, s := range m.spec.Samples {
		var res result
		if f := in.event(s.Group, s.Payload, 0, &res); f != nil {
			return fmt.Errorf("sample %d (%s): %w", i+1, s.Group, f)
		}
		if s.Verdict != "" && s.Verdict != res.verdict.String() {
			return fmt.Errorf("sample %d (%s): the verdict is %s instead of %s", i+1, s.Group, res.verdict, s.Verdict)
		}
		if len(s.Output) > 0 && !sameJSON(s.Output, res.payload) {
			return fmt.Errorf("sample %d (%s): the output is %.200q instead of %.200q", i+1, s.Group, res.payload, s.Output)
		}
		if err := s.emitted(res.emits); err != nil {
			return fmt.Errorf("sample %d (%s): %w", i+1, s.Group, err)
		}
	}
	return nil
}

func (s *Sample) emitted(got []emission) error {
	if len(s.Emits) == 0 {
		return nil
	}
	if len(got) != len(s.Emits) {
		return fmt.Errorf("%d events are emitted instead of %d", len(got), len(s.Emits))
	}
	for i, want := range s.Emits {
		if got[i].group != want.Group || !sameJSON(want.Payload, got[i].payload) {
			return fmt.Errorf("emitted is %.200q to %q instead of %.200q to %q", got[i].payload, got[i].group, want.Payload, want.Group)
		}
	}
	return nil
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	if json.Compact(&x, a) != nil || json.Compact(&y, b) != nil {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}

// Trace is what one event did to a plugin, see [Try].
type Trace struct {
	Verdict Verdict
	// Outputs are the event's own output, if any, and what was emitted; an empty group is the event's own.
	Outputs []Output
	// Err is the failure, with Verdict Failed. The plugin's OnError decides about such an event: it has no Outputs
	// here.
	Err error
	// Fuel is the number of units spent.
	Fuel int64
	// Duration of the call.
	Duration time.Duration
	// Memory is the instance's linear memory afterwards, in bytes.
	Memory uint64
}

// Trial runs one plugin by itself, to see what it does with events: for `plugin test`. It is for one goroutine.
type Trial struct {
	m    *module
	host *host
}

// Try loads a plugin for a trial. Its log lines go to o.Logger. Close the Trial after use.
func Try(ctx context.Context, o Options, spec Spec) (_ *Trial, err error) {
	def(&o.startWait, time.Minute) // a trial has nobody to hold up
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
	env := p.host.scratch(spec)
	env.log = newLogbook(p.host.logger, spec.Name, p.host.now)
	m, err := p.host.load(ctx, spec, env)
	if err != nil {
		return nil, err
	}
	return &Trial{m, p.host}, nil
}

// Event gives an event to the plugin.
func (t *Trial) Event(group string, payload []byte) (tr Trace) {
	key := breakerKey{hook: OnEvent, group: group}
	s, err := t.m.acquire(key, 0)
	if err == nil {
		err = t.event(s, key, payload, &tr)
	}
	if err != nil {
		tr.Verdict, tr.Err, tr.Outputs = Failed, err, nil
		s = &t.m.slots[0]
		s.breakers.succeeded(key) // every event of a trial is tried
	}
	return tr
}

func (t *Trial) event(s *slot, key breakerKey, payload []byte, tr *Trace) error {
	in, group := s.instance, key.group
	if in.onEvent == nil {
		return t.m.release(s, key, in.fail(KindResult, exportOnEvent, "the plugin does not export it"))
	}
	var res result
	start := time.Now()
	f := in.event(group, payload, 0, &res)
	tr.Duration = time.Since(start)
	tr.Memory = uint64(in.mem.Size())
	tr.Fuel = in.budget - int64(in.fuel.Get())
	tr.Verdict = res.verdict
	switch res.verdict {
	case Pass:
		tr.Outputs = append(tr.Outputs, Output{Payload: payload, Audience: res.audience})
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
