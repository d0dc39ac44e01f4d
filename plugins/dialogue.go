package plugins

import (
	"encoding/json"
	"slices"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// dialogue is the state of recorded conversations that a module replays: which of the recorded requests the module has
// made, too, and which clients are not there any more.
type dialogue struct {
	requests map[int64]*pending // by the numbers in the recording; nil for a request that the module did not make
	gone     map[string]bool    // clients that the module has rejected or closed, other than the module of the recording
}

// Converse calls a sample's hook as part of a recorded conversation. The answer to a recorded request goes to the
// request that the module has made in its place, with the module's own token and context. skipped reports that the call
// would not happen: the module has made no such request, or has rejected or closed the client, which earlier
// differences show.
func (t *Trial) Converse(s *Sample) (trace Trace, skipped bool) {
	r, f := t.run, s.Function
	if f == nil || s.hook()&ofFunctions == 0 {
		return r.call(s), false
	}
	d := &r.replies
	if s.hook() == OnConnect {
		delete(d.gone, f.Client)
	}
	if d.gone[f.Client] && f.Client != "" {
		return Trace{Hook: s.hook()}, true
	}
	if own, known := d.requests[f.Token]; known && f.Token != 0 {
		delete(d.requests, f.Token)
		if own == nil {
			return Trace{Hook: s.hook()}, true
		}
		r.answer = own
		defer func() { r.answer = nil }()
	}
	trace = r.call(s)
	d.match(f, r.requests)
	if f.Client != "" && d.ended(s, &trace) {
		if d.gone == nil {
			d.gone = map[string]bool{}
		}
		d.gone[f.Client] = true
	}
	return trace, false
}

// ended reports whether the module has ended a connection that went on in the recording.
func (d *dialogue) ended(s *Sample, t *Trace) bool {
	if t.Hook == OnConnect && s.Verdict == Allow.String() && t.Verdict != Allow {
		return true
	}
	return s.Function.Effects != nil && !slices.ContainsFunc(s.Function.Effects, isClose) &&
		slices.ContainsFunc(t.Effects, func(e Effect) bool { return isClose(json.RawMessage(e)) })
}

func isClose(effect json.RawMessage) bool { return effectName(effect) == "close" }

// effectName returns the name of an effect, which is that of its first member.
func effectName(effect json.RawMessage) string {
	members, _ := loosejson.Members(effect)
	if len(members) == 0 {
		return ""
	}
	return members[0].Name
}

// match finds the requests of a recorded call among those that the module has made: equal ones, and else those of the
// same operation and key.
func (d *dialogue) match(f *FunctionSample, made []*pending) {
	if len(f.Tokens) == 0 {
		return
	}
	if d.requests == nil {
		d.requests = map[int64]*pending{}
	}
	made = slices.Clone(made)
	recorded := slices.DeleteFunc(slices.Clone(f.Effects), func(e json.RawMessage) bool {
		return !slices.Contains(opNames[:], effectName(e))
	})
	for _, same := range []func(want json.RawMessage, e Effect) bool{
		func(want json.RawMessage, e Effect) bool { return e.matches(want) },
		func(want json.RawMessage, e Effect) bool {
			members, _ := loosejson.Members(want)
			first, _ := json.Marshal(map[string]json.RawMessage{members[0].Name: members[0].Value})
			return e.matches(first)
		},
	} {
		for i := range min(len(recorded), len(f.Tokens)) {
			token := f.Tokens[i]
			if d.requests[token] != nil {
				continue
			}
			d.requests[token] = nil
			at := slices.IndexFunc(made, func(p *pending) bool { return p != nil && same(recorded[i], p.effect()) })
			if at >= 0 {
				d.requests[token], made[at] = made[at], nil
			}
		}
	}
}
