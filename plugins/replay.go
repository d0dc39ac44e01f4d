package plugins

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
)

// Delivery is what becomes of a recorded event, or of any other sample, in a [Trial].
type Delivery struct {
	// Trace is that of the sample's hook. A module that does not export the hook passes the event, or allows the
	// subscription, without a call.
	Trace
	// Views are the event's own output as each class sees it. There are none unless the sample is an event.
	Views []View
	// Called are the hooks that were called.
	Called Hook
	// Skipped tells that the call would not happen, see [Trial.Converse].
	Skipped bool
}

// View is an event as a class sees it.
type View struct {
	Class   uint8
	Payload []byte
	Hidden  bool  // the class does not get the event
	Err     error // on_class failed
}

// Deliver takes a sample through the plugin like a relay with subscribers of the given classes: on_event, and then
// on_class for every class that gets the event. Fuel and Duration are sums.
func (t *Trial) Deliver(s *Sample, classes []uint8) (d Delivery) {
	if d.Trace, d.Skipped = t.Converse(s); d.Skipped {
		return d
	}
	if errors.Is(d.Err, ErrNoHook) {
		d.Trace = Trace{Hook: d.Hook, Verdict: Pass}
		switch d.Hook {
		case OnConnect:
			d.Verdict = Allow
		case OnMessage, OnClose, OnResult:
			if s.Function != nil {
				d.Attachment = string(t.run.connection(s.Function).attachment)
			}
		case OnSubscribe:
			d.Verdict = Allow
		case OnEvent, OnClass:
			d.Outputs = []Output{{Payload: s.payload(), Audience: allClasses}}
		}
	} else {
		d.Called = d.Hook
	}
	if d.Hook != OnEvent || d.Verdict != Pass && d.Verdict != Replace {
		return d
	}
	own := d.Outputs[0]
	for _, class := range classes {
		d.Views = append(d.Views, t.view(s, class, own, &d))
	}
	return d
}

// view renders an event's own output for a class, and adds the costs to d.
func (t *Trial) view(s *Sample, class uint8, own Output, d *Delivery) View {
	v := View{Class: class, Payload: own.Payload, Hidden: own.Audience&(1<<class) == 0}
	if v.Hidden || t.m.hooks&OnClass == 0 {
		return v
	}
	text := string(own.Payload)
	r := t.Run(&Sample{
		Hook: OnClass, Group: s.Group, Class: &class, Text: &text, Source: s.Source, Sent: s.Sent, Position: s.Position,
	})
	d.Called |= OnClass
	d.Fuel += r.Fuel
	d.Duration += r.Duration
	d.Memory = max(d.Memory, r.Memory)
	switch r.Verdict {
	case Failed:
		v.Err, v.Hidden = r.Err, true
	case Drop:
		v.Hidden = true
	default:
		v.Payload = r.Outputs[0].Payload
	}
	return v
}

// Failure returns the first error of the delivery.
func (d *Delivery) Failure() error {
	if d.Err != nil {
		return d.Err
	}
	for i := range d.Views {
		if d.Views[i].Err != nil {
			return d.Views[i].Err
		}
	}
	return nil
}

// Differences describes how the effect of another delivery of the same sample differs, for people. It returns nil if
// clients notice no difference: a replacement by equal bytes is the same as pass, and all failures are the same.
func (d *Delivery) Differences(other *Delivery, limit int) (lines []string) {
	if d.Hook&ofFunctions != 0 {
		return d.CompareFunction(&other.Trace, nil, limit)
	}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	a, b := d.effect(), other.effect()
	if a != b {
		add("%s → %s", a, b)
	}
	if d.Verdict == Deny && other.Verdict == Deny && d.Reason != other.Reason {
		add("reason %q → %q", d.Reason, other.Reason)
	}
	if d.Verdict == Allow && other.Verdict == Allow && d.Class != other.Class {
		add("class %d → %d", d.Class, other.Class)
	}
	own, otherOwn := d.own(), other.own()
	if own != nil && otherOwn != nil {
		lines = append(lines, Differences(own.Payload, otherOwn.Payload, limit)...)
		if own.Audience != otherOwn.Audience {
			add("audience %#x → %#x", own.Audience, otherOwn.Audience)
		}
		lines = append(lines, d.viewDifferences(other, limit)...)
	}
	lines = append(lines, emissionDifferences(d.emitted(), other.emitted(), limit)...)
	if len(lines) > limit {
		lines = append(lines[:limit], fmt.Sprintf("and %d more", len(lines)-limit))
	}
	return lines
}

// effect names the verdict, with pass and replace as one.
func (d *Delivery) effect() string {
	switch d.Verdict {
	case Failed:
		return verdictError
	case Pass, Replace:
		return "delivered"
	case Drop:
		return "dropped"
	}
	return d.Verdict.String()
}

// own returns the event's own output, or nil.
func (d *Delivery) own() *Output {
	if (d.Hook == OnEvent || d.Hook == OnClass) && (d.Verdict == Pass || d.Verdict == Replace) {
		return &d.Outputs[0]
	}
	return nil
}

// viewDifferences describes views that differ although the outputs behind them do not, or that only one module renders.
func (d *Delivery) viewDifferences(other *Delivery, limit int) (lines []string) {
	if (d.Called|other.Called)&OnClass == 0 {
		return nil
	}
	for i := range min(len(d.Views), len(other.Views)) {
		a, b := &d.Views[i], &other.Views[i]
		if x, y := a.state(), b.state(); x != y {
			lines = append(lines, fmt.Sprintf("class %d: %s → %s", a.Class, x, y))
			continue
		}
		if a.Hidden || bytes.Equal(a.Payload, d.own().Payload) && bytes.Equal(b.Payload, other.own().Payload) {
			continue // a difference of the outputs behind the views has been described
		}
		for _, line := range Differences(a.Payload, b.Payload, limit) {
			lines = append(lines, fmt.Sprintf("class %d: %s", a.Class, line))
		}
	}
	return lines
}

func (v *View) state() string {
	switch {
	case v.Err != nil:
		return verdictError
	case v.Hidden:
		return "hidden"
	}
	return "delivered"
}

func emissionDifferences(a, b []Output, limit int) (lines []string) {
	if len(a) != len(b) {
		lines = append(lines, fmt.Sprintf("%d emitted events → %d", len(a), len(b)))
	}
	for i := range min(len(a), len(b)) {
		if a[i].Group != b[i].Group {
			lines = append(lines, fmt.Sprintf("emitted event %d to %s → %s", i+1,
				cmp.Or(a[i].Group, "its own group"), cmp.Or(b[i].Group, "its own group")))
		}
		if a[i].Audience != b[i].Audience {
			lines = append(lines, fmt.Sprintf("emitted event %d: audience %#x → %#x", i+1, a[i].Audience, b[i].Audience))
		}
		if !bytes.Equal(a[i].Payload, b[i].Payload) {
			for _, line := range Differences(a[i].Payload, b[i].Payload, limit) {
				lines = append(lines, fmt.Sprintf("emitted event %d: %s", i+1, line))
			}
		}
	}
	return lines
}
