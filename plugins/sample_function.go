package plugins

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/edgerelay/edgerelay/plugins/internal/loosejson"
)

// FunctionSample is the part of a [Sample] that concerns the hooks of a function. Samples with the same client are
// about one connection, whose attachment lasts from sample to sample. Payload or Text is the message of on_message, the
// body of on_result, the payload of on_alarm and the reason of on_close.
type FunctionSample struct {
	Client string
	// Request is the JSON object of on_connect.
	Request json.RawMessage
	// Binary is a binary message, nil for a text message. For on_result and on_alarm it is a body that is no text.
	Binary []byte
	// Name is that of the alarm. Code is that of the end of a connection, 1000 by default.
	Name string
	Code *int
	// Status and Context are those of the response. Then, if not empty, is the name of the continuation, as the SDKs have
	// it: a zero byte stands between it and the rest of the context.
	Status        int32
	Then, Context string
	// ContextBinary is a context that is no text.
	ContextBinary []byte
	// Token is the number of the request that on_result answers, among those of a recording; 0 if there is none. Tokens
	// are the numbers of the requests that the call has made.
	Token  int64
	Tokens []int64
	// Random are the first bytes that the plugin gets from random_get in the call.
	Random []byte
	// Attachment, if not nil, is the connection's attachment before the call; AttachmentBinary one that is no text.
	Attachment       *string
	AttachmentBinary []byte

	// WantAttachment, if not nil, is the expected attachment after the call.
	WantAttachment       *string
	WantAttachmentBinary []byte
	// WantStatus is the expected HTTP status of a rejection.
	WantStatus int
	// Effects are the expected effects, in order, actions before requests: see [Effect]. Each is an object of which the
	// effect must have all members. An empty list that is not nil allows none.
	Effects []json.RawMessage
}

// ofFunctions are the hooks whose samples have a FunctionSample.
const ofFunctions = ofClients | OnResult | OnAlarm

// function returns the function's part of a sample, to set a member.
func (s *Sample) function() *FunctionSample {
	if s.Function == nil {
		s.Function = &FunctionSample{}
	}
	return s.Function
}

// addFunctionMembers adds the members of functions to sampleMembers.
func addFunctionMembers() {
	into := func(field func(f *FunctionSample) any) func(*Sample, []byte) error {
		return func(s *Sample, v []byte) error { return json.Unmarshal(v, field(s.function())) }
	}
	for name, set := range map[string]func(s *Sample, v []byte) error{
		"client":          into(func(f *FunctionSample) any { return &f.Client }),
		"name":            into(func(f *FunctionSample) any { return &f.Name }),
		"code":            into(func(f *FunctionSample) any { return &f.Code }),
		"status":          into(func(f *FunctionSample) any { return &f.Status }),
		"then":            into(func(f *FunctionSample) any { return &f.Then }),
		"context":         into(func(f *FunctionSample) any { return &f.Context }),
		"attachment":      into(func(f *FunctionSample) any { return &f.Attachment }),
		"want_attachment": into(func(f *FunctionSample) any { return &f.WantAttachment }),
		"want_status":     into(func(f *FunctionSample) any { return &f.WantStatus }),
		"binary":          into(func(f *FunctionSample) any { return &f.Binary }),
		"context_binary":  into(func(f *FunctionSample) any { return &f.ContextBinary }),
		"token":           into(func(f *FunctionSample) any { return &f.Token }),
		"tokens":          into(func(f *FunctionSample) any { return &f.Tokens }),
		"random":          into(func(f *FunctionSample) any { return &f.Random }),

		"attachment_binary":      into(func(f *FunctionSample) any { return &f.AttachmentBinary }),
		"want_attachment_binary": into(func(f *FunctionSample) any { return &f.WantAttachmentBinary }),

		"request": func(s *Sample, v []byte) error {
			s.function().Request = bytes.Clone(v)
			return nil
		},
		"effects": func(s *Sample, v []byte) error { return s.function().setEffects(v) },
	} {
		sampleMembers[name] = set
	}
}

func (f *FunctionSample) setEffects(v []byte) error {
	list, ok := loosejson.Elements(v)
	if !ok {
		return errors.New("use a list of objects")
	}
	f.Effects = []json.RawMessage{}
	for _, element := range list {
		if members, ok := loosejson.Members(element); !ok || len(members) == 0 {
			return errors.New(`use a list of objects such as {"send": "hi"}`)
		}
		f.Effects = append(f.Effects, bytes.Clone(element))
	}
	return nil
}

// check rejects members that the hook has no use for.
func (f *FunctionSample) check(hook Hook, fault func(wrong bool, format string, args ...any)) {
	if hook&ofFunctions == 0 {
		only := *f
		only.Effects = nil
		fault(only.isSet(), "client, request, code, status, … are for functions; %s has only effects", hook)
		fault(f.Effects != nil && hook&(OnEvent|OnTick|OnSubscribe) == 0, "%s has no effects", hook)
		return
	}
	fault(f.Request != nil && hook != OnConnect, "request is for on_connect, not for %s", hook)
	fault(f.Binary != nil && hook&(OnMessage|OnResult|OnAlarm) == 0,
		"binary is for on_message, on_result and on_alarm, not for %s", hook)
	fault(f.Code != nil && hook != OnClose, "code is for on_close, not for %s", hook)
	fault((f.Status != 0 || f.Then != "" || f.Context != "" || f.ContextBinary != nil || f.Token != 0) && hook != OnResult,
		"status, then, context and token are for on_result, not for %s", hook)
	fault(f.Name != "" && hook != OnAlarm, "name is for on_alarm, not for %s", hook)
	fault(f.WantStatus != 0 && hook != OnConnect, "want_status is for on_connect, not for %s", hook)
	fault(hook == OnAlarm && (f.Attachment != nil || f.AttachmentBinary != nil || f.wantAttachment() != nil),
		"on_alarm has no client")
}

func (f *FunctionSample) isSet() bool {
	text, err := json.Marshal(f)
	empty, _ := json.Marshal(&FunctionSample{})
	return err == nil && !bytes.Equal(text, empty)
}

// context returns the context of the response as it travels.
func (f *FunctionSample) context() []byte {
	switch {
	case f.ContextBinary != nil:
		return f.ContextBinary
	case f.Then == "":
		return []byte(f.Context)
	}
	return []byte(f.Then + "\x00" + f.Context)
}

// wantAttachment returns the expected attachment, nil without an expectation.
func (f *FunctionSample) wantAttachment() *string {
	if f.WantAttachmentBinary != nil {
		text := string(f.WantAttachmentBinary)
		return &text
	}
	return f.WantAttachment
}

// writeKey writes all that identifies the sample.
func (f *FunctionSample) writeKey(w io.Writer) {
	if f != nil {
		text, _ := json.Marshal(f)
		fmt.Fprintf(w, "%s %v\n", text, f.Effects != nil)
	}
}

// Effect is an effect of a call in a [Trial], a JSON object. Its first member names it:
//
//   - {"send": text} or {"send_binary": base64}, {"join": group}, {"leave": group}, {"close": code, "reason": text}
//   - {"publish": group, "text": text}, with "type" and "others": true if there are any
//   - {"shared_set": key, "value": text, "ttl": ms} and the like: the name of the host function, with "expected", "delta",
//     "limit" and "at"; {"alarm_set": name, "value": payload, "at": ms}; {"fetch": url, "method": …, "value": body}. A
//     request has "then" and "context", too.
type Effect json.RawMessage

// member is a member of an effect.
type member struct {
	name  string
	value any
}

// newEffect returns an effect of members in order. Empty texts, zeros and false are left out, except for the first one.
func newEffect(members ...member) Effect {
	out := []byte{'{'}
	for i, m := range members {
		if i > 0 && (m.value == "" || m.value == int64(0) || m.value == false) {
			continue
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendJSON(out, m.name), ':')
		out = appendJSON(out, m.value)
	}
	return append(out, '}')
}

// appendJSON appends a value, without escapes for HTML.
func appendJSON(b []byte, v any) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // numbers and texts
	return append(b, bytes.TrimRight(buf.Bytes(), "\n")...)
}

// list returns the effects as samples have them.
func (made *effects) list() (list []Effect) {
	if made == nil {
		return nil
	}
	for i := range made.actions {
		list = append(list, made.actions[i].effect())
	}
	for _, r := range made.requests {
		list = append(list, r.effect())
	}
	return list
}

// effectSendBinary is the name of the effect with a binary message, in base64.
const effectSendBinary = "send_binary"

func (a *Action) effect() Effect {
	switch a.Kind {
	case ActionSend:
		if a.Binary {
			return newEffect(member{effectSendBinary, base64.StdEncoding.EncodeToString(a.Payload)})
		}
		return newEffect(member{"send", string(a.Payload)})
	case ActionJoin:
		return newEffect(member{"join", a.Group})
	case ActionLeave:
		return newEffect(member{"leave", a.Group})
	case ActionPublish:
		return newEffect(member{"publish", a.Group}, member{"type", a.Type}, member{"text", string(a.Payload)},
			member{"others", a.Others})
	}
	return newEffect(member{"close", int64(a.Code)}, member{"reason", string(a.Payload)})
}

func (r *pending) effect() Effect {
	members := []member{
		{r.Op.String(), r.Key},
		{"expected", string(r.Expected)},
		{"value", string(r.Value)},
		{"delta", r.Delta},
		{"limit", int64(r.Limit)},
		{"ttl", r.TTL.Milliseconds()},
	}
	switch r.Op {
	case AlarmSet:
		members = append(members, member{"at", r.At.UnixMilli()})
	case HTTPFetch:
		var parts struct{ Method, URL string }
		_ = json.Unmarshal([]byte(r.Key), &parts) // the host has checked that it is an object
		members[0].value = parts.URL
		members = append(members, member{"method", parts.Method})
	}
	then, context, named := bytes.Cut(r.context, []byte{0})
	if !named {
		then, context = nil, r.context
	}
	return newEffect(append(members, member{"then", string(then)}, member{"context", string(context)})...)
}

// matches reports whether the effect has all members of an expected one. Where the effect has a text, the expected
// member may be the JSON value that the text stands for.
func (e Effect) matches(want json.RawMessage) bool {
	wanted, _ := loosejson.Members(want)
	has, _ := loosejson.Members(e)
	for _, w := range wanted {
		found := false
		for _, h := range has {
			found = found || h.Name == w.Name && sameValue(w.Value, h.Value)
		}
		if !found {
			return false
		}
	}
	return true
}

// sameValue compares the value of an expected member with that of an effect.
func sameValue(want, got []byte) bool {
	var text string
	if loosejson.Same(want, got) {
		return true
	}
	if json.Unmarshal(got, &text) != nil {
		return false
	}
	var wanted string
	if json.Unmarshal(want, &wanted) == nil {
		return wanted == text
	}
	return loosejson.Same(want, []byte(text))
}

// compareFunction checks the expectations about a function.
func (s *Sample) compareFunction(t *Trace) error {
	f := s.Function
	if f == nil {
		return nil
	}
	if f.WantStatus != 0 && f.WantStatus != t.Status {
		return fmt.Errorf("verdict %s with the status %d, want %d", t.Verdict, t.Status, f.WantStatus)
	}
	if want := f.wantAttachment(); want != nil && *want != t.Attachment {
		return fmt.Errorf("the attachment is %.200q, want %.200q", t.Attachment, *want)
	}
	if f.Effects == nil {
		return nil
	}
	for i, want := range f.Effects {
		if i >= len(t.Effects) {
			return fmt.Errorf("%d effects, want %d; the next one is missing: %.200s", len(t.Effects), len(f.Effects), want)
		}
		if !t.Effects[i].matches(want) {
			return fmt.Errorf("effect %d is %.200s, want %.200s", i+1, t.Effects[i], want)
		}
	}
	if len(t.Effects) > len(f.Effects) {
		return fmt.Errorf("%d effects, want %d; the next one is %.200s", len(t.Effects), len(f.Effects), t.Effects[len(f.Effects)])
	}
	return nil
}
