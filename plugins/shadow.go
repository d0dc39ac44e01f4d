package plugins

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shadowQueueBytes bounds the events that wait for a shadow.
	shadowQueueBytes = 16 << 20
	// observationOverhead is the size of an observation in addition to its payloads, in bytes.
	observationOverhead = 512
	// shadowDifferences is how many differing decisions a shadow remembers.
	shadowDifferences = 20
	// maxExcerpt and maxEmittedExcerpt bound the payloads that a ShadowDifference shows, in bytes.
	maxExcerpt, maxEmittedExcerpt = 4 << 10, 1 << 10
)

// observation is an event that a shadow is to decide about, and the decision of the original.
type observation struct {
	hash     uint64
	ev       Event
	hops     int
	original result
}

func (o *observation) size() int {
	n := observationOverhead + len(o.ev.Payload) + len(o.original.payload)
	for i := range o.original.emits {
		n += len(o.original.emits[i].payload)
	}
	return n
}

// shadowPhase is the phase of a shadow's queue.
type shadowPhase uint8

const (
	shadowIdle    shadowPhase = iota // the queue is empty, and there is no worker
	shadowWorking                    // the worker takes observations
	shadowEnded                      // the plugin has left the pipeline
)

// shadowQueue takes a shadow's observations beside the live path, one after another on a goroutine of its own. Methods
// are safe for concurrent use.
// See docs/decisions/plugins.md#why-do-shadows-run-beside-the-live-path
type shadowQueue struct {
	same, differ, skipped atomic.Uint64

	mu     sync.Mutex // guards the fields below
	phase  shadowPhase
	items  []observation
	bytes  int
	worker chan struct{}      // closed when the worker has ended; nil before the first one
	recent []ShadowDifference // a ring once it is full
	next   int
}

// observe queues a copy of an event for a shadow, unless the queue is full. It does not wait.
func (p *plugin) observe(hash uint64, ev *Event, hops int, original *result) {
	q := &p.shadow
	o := observation{hash: hash, ev: *ev, hops: hops, original: *original}
	size := o.size()
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.phase == shadowEnded:
		return
	case q.bytes+size > shadowQueueBytes && len(q.items) > 0:
		q.skipped.Add(1)
		return
	}
	o.ev.Payload = bytes.Clone(ev.Payload)
	q.items = append(q.items, o)
	q.bytes += size
	if q.phase == shadowIdle {
		q.phase, q.worker = shadowWorking, make(chan struct{})
		go p.observeQueued(q.worker)
	}
}

// observeQueued is the worker of a shadow's queue.
func (p *plugin) observeQueued(ended chan struct{}) {
	defer close(ended)
	q := &p.shadow
	for {
		q.mu.Lock()
		if len(q.items) == 0 {
			if q.phase == shadowWorking {
				q.phase = shadowIdle
			}
			q.items = nil
			q.mu.Unlock()
			return
		}
		o := q.items[0]
		q.items[0] = observation{}
		q.items, q.bytes = q.items[1:], q.bytes-o.size()
		q.mu.Unlock()
		p.decideBeside(&o)
	}
}

// end drops the observations, and all later ones.
func (q *shadowQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.phase, q.items, q.bytes = shadowEnded, nil, 0
}

// wait waits for the observation in progress if the queue has ended.
func (q *shadowQueue) wait() {
	q.mu.Lock()
	worker := q.worker
	if q.phase != shadowEnded {
		worker = nil
	}
	q.mu.Unlock()
	if worker != nil {
		<-worker
	}
}

// decideBeside lets a shadow decide about an event, and compares the decision with the original's.
func (p *plugin) decideBeside(o *observation) {
	var res result
	err := p.event(o.hash, &o.ev, o.hops, nil, &res)
	switch {
	case res.removed:
	case err == errBreakerOpen:
		p.shadow.skipped.Add(1)
	case err == nil && res.equal(&o.original):
		p.shadow.same.Add(1)
	default:
		p.shadow.differ.Add(1)
		p.shadow.remember(ShadowDifference{
			At: p.env.now(), Group: o.ev.Group,
			Payload: cutText(o.ev.Payload, maxExcerpt), PayloadBytes: len(o.ev.Payload),
			Original: describeDecision(&o.original, nil), Shadow: describeDecision(&res, err),
		})
	}
}

// equal reports whether two decisions have the same effect.
func (r *result) equal(o *result) bool {
	return r.verdict == o.verdict && bytes.Equal(r.payload, o.payload) && r.audience == o.audience &&
		slices.EqualFunc(r.emits, o.emits, func(a, b emission) bool {
			return a.group == b.group && a.audience == b.audience && bytes.Equal(a.payload, b.payload)
		})
}

// ShadowDifference is an event about which a shadow decided otherwise than its original. Payloads can hold secrets, as
// the events of a tail can.
type ShadowDifference struct {
	At    time.Time `json:"at"`
	Group string    `json:"group"`
	// Payload is the event's payload, cut to 4 KiB. PayloadBytes is the full length.
	Payload      string        `json:"payload"`
	PayloadBytes int           `json:"payload_bytes"`
	Original     EventDecision `json:"original"`
	Shadow       EventDecision `json:"shadow"`
}

// EventDecision is a plugin's decision about an event, for display.
type EventDecision struct {
	// Verdict is pass, drop, replace, or failed. A withheld event of the original counts as drop.
	Verdict string `json:"verdict"`
	// Output is the payload of replace, cut to 4 KiB. OutputBytes is the full length.
	Output      string `json:"output,omitempty"`
	OutputBytes int    `json:"output_bytes,omitempty"`
	// Audience lists the classes that get the event; absent for all classes.
	Audience []uint8 `json:"audience,omitempty"`
	// Emits are the emitted events, with payloads cut to 1 KiB.
	Emits []EventEmission `json:"emits,omitempty"`
	// Error is the failure of a failed call.
	Error string `json:"error,omitempty"`
}

// EventEmission is an emitted event, for display.
type EventEmission struct {
	Group        string  `json:"group,omitempty"` // absent: the original event's
	Payload      string  `json:"payload"`
	PayloadBytes int     `json:"payload_bytes"`
	Audience     []uint8 `json:"audience,omitempty"`
}

// describeDecision returns a result, or the failure of a call, for display.
func describeDecision(res *result, err error) EventDecision {
	if err != nil {
		return EventDecision{Verdict: Failed.String(), Error: err.Error()}
	}
	d := EventDecision{Verdict: res.verdict.String(), Audience: listClasses(res.audience)}
	if res.verdict == Replace {
		d.Output, d.OutputBytes = cutText(res.payload, maxExcerpt), len(res.payload)
	}
	for _, e := range res.emits {
		d.Emits = append(d.Emits, EventEmission{
			e.group, cutText(e.payload, maxEmittedExcerpt), len(e.payload), listClasses(e.audience),
		})
	}
	return d
}

// listClasses returns the classes in an audience, nil for all.
func listClasses(audience uint64) []uint8 {
	if audience == allClasses {
		return nil
	}
	list := []uint8{}
	for c := range uint8(maxClass + 1) {
		if audience&(1<<c) != 0 {
			list = append(list, c)
		}
	}
	return list
}

// cutText returns the beginning of a payload as text.
func cutText(payload []byte, limit int) string {
	return strings.ToValidUTF8(string(payload[:min(len(payload), limit)]), "\uFFFD")
}

// remember keeps a difference in place of the oldest one.
func (q *shadowQueue) remember(d ShadowDifference) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.recent) < shadowDifferences {
		q.recent = append(q.recent, d)
	} else {
		q.recent[q.next] = d
	}
	q.next = (q.next + 1) % shadowDifferences
}

// differences returns the remembered differences, oldest first.
func (q *shadowQueue) differences() []ShadowDifference {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]ShadowDifference, 0, len(q.recent))
	if len(q.recent) == shadowDifferences {
		list = append(list, q.recent[q.next:]...)
	}
	return append(list, q.recent[:min(q.next, len(q.recent))]...)
}

// Differences returns the last events about which a shadow, or the candidate of a canary, decided otherwise than its
// original, oldest first, at most 20. The list is empty for other plugins.
func (p *Pipeline) Differences(name string) ([]ShadowDifference, error) {
	for _, pl := range *p.order.Load() {
		if pl.name == name {
			if c := pl.deployment.Load().canary; c != nil && c.trial.beside != nil {
				return c.trial.beside.shadow.differences(), nil
			}
			return pl.shadow.differences(), nil
		}
	}
	return nil, unknownPlugin(name)
}

// Observes reports whether Observe has an effect on some group.
func (p *Pipeline) Observes() bool { return p.routes.Load().observes }

// Observe gives an event of a group without plugins with effect to the group's shadows. It does not wait for them, and
// keeps no argument.
func (p *Pipeline) Observe(ev Event) {
	rt := p.routes.Load().find(ev.Group)
	ev.Group = rt.group
	for i := range rt.steps {
		if s := &rt.steps[i]; s.shadow {
			s.plugin.observe(rt.hash, &ev, 0, &result{audience: allClasses})
		}
	}
}
