package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// Output is an event that leaves the pipeline.
type Output struct {
	Group   string
	Payload []byte
	// Audience holds a bit for each subscriber class that gets the event; all are set unless a plugin said otherwise.
	Audience uint64
	// PerClass tells that a plugin of the group renders payloads: call Render for each class present instead of sending Payload.
	PerClass bool
}

// Decision is what the plugins say to a subscription.
type Decision struct {
	Allow bool
	// Class of the subscriber, 0 to 63.
	Class uint8
	// Reason of a denial, for the log and the client; may be empty.
	Reason string
	// Plugin that denied.
	Plugin string
}

// Pipeline takes events through plugins. Its methods are safe for concurrent use; events of one group keep their order if they come
// from one caller at a time.
type Pipeline struct {
	host *host
	seed maphash.Seed

	routes atomic.Pointer[routes]
	order  atomic.Pointer[[]*plugin] // for who looks, and does not wait for a change

	// withheld is told of events that are withheld; nil: no function.
	withheld atomic.Pointer[func(group string)]

	mu      sync.Mutex // of changes
	plugins map[string]*plugin
	closed  bool
}

// OnWithheld calls told with the group of each event that is withheld because a plugin could not process it, see
// [OnErrorWithhold], from the goroutine that brought the event. So told must be quick, and not call the Pipeline.
func (p *Pipeline) OnWithheld(told func(group string)) { p.withheld.Store(&told) }

// Process takes an event through the plugins of its group and appends what comes out to out: nothing if a plugin dropped it, several
// events if one split it or sent some to other groups. It does not block on anything but a guest's budget, keeps neither argument, and
// does not allocate for an event that passes. Outputs of the event's own group come in order; an output may share payload's bytes.
func (p *Pipeline) Process(group string, payload []byte, out []Output) []Output {
	out, _ = p.Run(group, payload, out)
	return out
}

// Run is Process, and tells whether the event or one that was emitted for it was withheld, see [OnErrorWithhold].
func (p *Pipeline) Run(group string, payload []byte, out []Output) (_ []Output, withheld bool) {
	r := p.routes.Load()
	way := r.of(group)
	ev := Output{Group: group, Payload: payload, Audience: allClasses}
	if len(way.steps) == 0 {
		return append(out, ev), false
	}
	for n := len(out); ; {
		w := walk{limit: n + maxOutputs, emissions: maxEmissions, tell: p.withheld.Load()}
		if out = r.walk(way, 0, &ev, 0, out, &w); !w.stale {
			return out, w.withheld
		}
		// A plugin on its way was removed meanwhile: what is in force now decides.
		out = out[:n]
		now := p.routes.Load()
		if now == r { // all of them are being closed
			return out, false
		}
		r, way, ev = now, now.of(group), Output{Group: group, Payload: payload, Audience: allClasses}
	}
}

// maxEmissions is how many emitted events are followed for one event, whether they come out or not.
const maxEmissions = 256

// walk is what is counted while one event goes through the pipeline.
type walk struct {
	limit     int // of outputs, with those of other events before them
	emissions int // that may still be followed
	stale     bool
	withheld  bool
	tell      *func(group string) // of withheld events; may be nil
}

func (w *walk) withhold(group string) {
	w.withheld = true
	if w.tell != nil {
		(*w.tell)(group)
	}
}

// walk takes an event through the steps of its way from the given one on.
func (r *routes) walk(way *route, from int, ev *Output, hops int, out []Output, w *walk) []Output {
	var res result
	for i := from; i < len(way.steps); i++ {
		s := &way.steps[i]
		s.event(way.hash, way.group, ev.Payload, hops, &res)
		if res.removed {
			w.stale = true
			return out
		}
		if s.shadow || len(s.shadows) > 0 {
			way.compare(s, ev.Payload, hops, &res)
			if s.shadow {
				continue
			}
		}
		if len(res.emits) > 0 {
			return r.split(way, i, ev, &res, hops, out, w)
		}
		if res.verdict == Drop {
			if res.withheld {
				w.withhold(way.group)
			}
			return out
		}
		ev.apply(&res)
	}
	return way.arrive(ev, out, w.limit)
}

// split goes on with an event's own output first and with what was emitted afterwards.
func (r *routes) split(way *route, at int, ev *Output, res *result, hops int, out []Output, w *walk) []Output {
	before := ev.Audience
	if res.verdict != Drop {
		ev.apply(res)
		out = r.walk(way, at+1, ev, hops, out, w)
	}
	for _, e := range res.emits {
		if w.stale {
			return out
		}
		if len(out) >= w.limit || w.emissions == 0 {
			way.leaveOut(at, &e, w)
			continue
		}
		w.emissions--
		if e.group == "" {
			out = r.walk(way, at+1, &Output{Group: way.group, Payload: e.payload, Audience: before & e.audience}, hops, out, w)
			continue
		}
		// An audience is of one group's classes; another group begins with its own.
		out = r.walk(r.of(e.group), 0, &Output{Group: e.group, Payload: e.payload, Audience: e.audience}, hops+1, out, w)
	}
	return out
}

// leaveOut counts an emitted event that is one too many, and tells the clients of its group like [OnErrorWithhold].
func (way *route) leaveOut(at int, e *emission, w *walk) {
	s := &way.steps[at]
	s.excess.Add(1)
	switch {
	case s.spec.Load().OnError == OnErrorDrop:
	case e.group == "":
		w.withhold(way.group)
	default:
		w.withhold(e.group)
	}
}

// arrive appends an event that is through.
func (way *route) arrive(ev *Output, out []Output, limit int) []Output {
	if len(out) >= limit || ev.Audience == 0 {
		return out
	}
	for i := range way.steps {
		if m := way.steps[i].live(); m != nil && m.hooks&OnClass != 0 && !way.steps[i].shadow {
			ev.PerClass = true
		}
	}
	return append(out, *ev)
}

// compare lets a step's shadows decide too, and counts whether they decide alike. A shadow that is a step is compared with pass.
func (way *route) compare(s *step, payload []byte, hops int, res *result) {
	if s.shadow {
		s.count(&result{audience: allClasses}, res)
	}
	for _, sh := range s.shadows {
		var other result
		sh.event(way.hash, way.group, payload, hops, &other)
		sh.count(res, &other)
	}
}

func (ev *Output) apply(res *result) {
	if res.verdict == Replace {
		ev.Payload = res.payload
	}
	ev.Audience &= res.audience
}

// count notes whether a shadow decided like the original.
func (p *plugin) count(original, shadow *result) {
	same := original.verdict == shadow.verdict && bytes.Equal(original.payload, shadow.payload) &&
		original.audience == shadow.audience && len(original.emits) == len(shadow.emits)
	for i := 0; same && i < len(original.emits); i++ {
		a, b := original.emits[i], shadow.emits[i]
		same = a.group == b.group && a.audience == b.audience && bytes.Equal(a.payload, b.payload)
	}
	if same {
		p.shadowSame.Add(1)
	} else {
		p.shadowDiffer.Add(1)
	}
}

// Render returns the payload that subscribers of a class, 0 to 63, get of an Output with PerClass set. It reports false if
// they get nothing, and an error for any other class. The result may share the argument's bytes.
func (p *Pipeline) Render(class uint8, group string, payload []byte) (rendered []byte, ok bool, err error) {
	if class > maxClass {
		return nil, false, fmt.Errorf("render for class %d: classes are 0 to %d", class, maxClass)
	}
	for {
		r := p.routes.Load()
		switch res := r.of(group).render(class, payload); {
		case !res.removed:
			if told := p.withheld.Load(); res.withheld && told != nil {
				(*told)(group)
			}
			return res.payload, res.verdict != Drop, nil
		case p.routes.Load() == r: // the pipeline is being closed
			return nil, false, nil
		}
	}
}

// render is Render by the plugins of one route; gone tells that one of them has been removed meanwhile.
func (way *route) render(class uint8, payload []byte) result {
	for i := range way.steps {
		s := &way.steps[i]
		if s.shadow {
			continue
		}
		switch res := s.render(way.hash, class, way.group, payload); {
		case res.removed, res.verdict == Drop:
			return res
		case res.verdict == Replace:
			payload = res.payload
		}
	}
	return result{payload: payload}
}

// Subscribe asks the group's plugins whether a user may subscribe, and for the class they are in. user is a JSON value, nil for none.
// Every plugin must allow; the first that names a class decides on it. The error tells of a plugin that failed, for which the Decision
// is then a denial, or of a context that is done.
func (p *Pipeline) Subscribe(ctx context.Context, user []byte, group string) (Decision, error) {
	for {
		r := p.routes.Load()
		d, err := p.subscribe(ctx, r.of(group), user)
		if !errors.Is(err, errReplaced) || p.routes.Load() == r { // the latter: all plugins are being closed
			return d, err
		}
	}
}

// subscribe is Subscribe by the plugins of one route. errReplaced tells that one of them has been removed meanwhile.
func (p *Pipeline) subscribe(ctx context.Context, way *route, user []byte) (Decision, error) {
	d := Decision{Allow: true}
	var request []byte
	classified := false
	for i := range way.steps {
		s := &way.steps[i]
		if m := s.live(); s.shadow || m != nil && m.hooks&OnSubscribe == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return Decision{Plugin: s.name}, fmt.Errorf("plugin %s was not asked: %w", s.name, err)
		}
		if request == nil {
			var err error
			if request, err = subscribeRequest(user, way.group); err != nil {
				return Decision{Plugin: s.name}, err
			}
		}
		answer, named, err := s.subscribe(way.hash, maphash.Bytes(p.seed, user), way.group, request)
		if err != nil {
			return Decision{Plugin: s.name, Reason: "the plugin failed"}, fmt.Errorf("plugin %s decides about group %s: %w", s.name, way.group, err)
		}
		if !answer.Allow {
			answer.Plugin = s.name
			return answer, nil
		}
		if named && !classified {
			d.Class, classified = answer.Class, true
		}
	}
	return d, nil
}

func subscribeRequest(user []byte, group string) ([]byte, error) {
	if len(user) == 0 {
		user = []byte("null")
	}
	request, err := json.Marshal(struct {
		User  json.RawMessage `json:"user"`
		Group string          `json:"group"`
	}{user, group})
	if err != nil {
		return nil, fmt.Errorf("the user is not a JSON value: %w", err)
	}
	return request, nil
}

// Matches tells whether any plugin is bound to the group.
func (p *Pipeline) Matches(group string) bool { return len(p.routes.Load().of(group).steps) > 0 }
