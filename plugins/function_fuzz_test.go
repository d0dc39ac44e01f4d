package plugins

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"
)

// strict is a client, and a service, that fails a test for actions and requests that a guest must not make.
type strict struct {
	t     *testing.T
	count atomic.Int64
}

// Perform implements [Client].
func (s *strict) Perform(actions []Action) {
	s.count.Add(int64(len(actions)))
	if len(actions) > maxActions+1 {
		s.t.Errorf("%d actions", len(actions))
	}
	for i := range actions {
		a := &actions[i]
		switch a.Kind {
		case ActionSend:
			if !a.Binary && !utf8.Valid(a.Payload) {
				s.t.Errorf("a text that is not UTF-8: %q", a.Payload)
			}
		case ActionJoin, ActionLeave:
			if !validGroupName([]byte(a.Group)) {
				s.t.Errorf("no group: %q", a.Group)
			}
		case ActionPublish:
			if !validGroupName([]byte(a.Group)) || !utf8.Valid(a.Payload) || a.Type != "" && !isObject(a.Payload) ||
				len(a.Type) > maxType {
				s.t.Errorf("no message: %+v", a)
			}
		case ActionClose:
			if !validCloseCode(uint32(a.Code)) || len(a.Payload) > maxCloseReason || !utf8.Valid(a.Payload) {
				s.t.Errorf("no close frame: %+v", a)
			}
		}
	}
}

// Start implements [Service].
func (s *strict) Start(r *Request, done func(Response)) {
	s.count.Add(1)
	if r.fault() != effectDone || r.Plugin != "asker" || r.Op >= opCount {
		s.t.Errorf("no request: %+v", r)
	}
	done(Response{Status: int32(len(r.Key)), Body: slices.Clone(r.Value)})
	done(Response{}) // a second answer does nothing
}

// FuzzFunctionCalls lets a guest call every host function for clients with arbitrary arguments, in every hook.
func FuzzFunctionCalls(f *testing.F) {
	for n := range byte(19) {
		for _, args := range [][]uint64{
			{0, 0, 0, 0, 0, 0, 0, 0},
			{4106, 4, 4106, 0, 4106, 4, 0, 0},
			{0, 4106, 4, 64, 4, 64, 4, 64},
			{1000, 64, 4, 64, 4, 64, 4},
			{0xfffffff0, 0xfffffff0, 0xfffffff0, 0xfffffff0, 0xfffffff0, 0xfffffff0},
			{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)},
			{64, 512, 64, 1 << 16, 9, 64, 64, 1024},
		} {
			b := []byte{n}
			for _, a := range args {
				b = binary.LittleEndian.AppendUint64(b, a)
			}
			f.Add(append(b, "room"...))
		}
	}
	p := pipeline(f, Options{}, Spec{
		Name: "asker", Wasm: fixture(f, "asker"), Groups: []string{"*"}, Grants: Grants, MaxFailures: 1 << 20,
		Instances: 1, OnError: OnErrorPass, Tick: minTick,
	})
	p.SetPublisher(func(string, *Action) {})
	f.Fuzz(func(t *testing.T, input []byte) {
		s := &strict{t: t}
		p.SetServices(Services{Shared: s, Alarms: s, Fetch: s})
		c, actions, err := p.Connect(context.Background(), "asker", NewConnectionID(), input)
		if err == nil {
			s.Perform(actions)
			c.Open(s)
			_ = c.Message(true, input)
			_ = c.Message(false, input)
			if n := len(c.Attachment()); n > MaxAttachment {
				t.Errorf("an attachment of %d bytes", n)
			}
			c.Ended(1001, strings.ToValidUTF8(string(input), ""))
		}
		_ = p.Alarm(context.Background(), "asker", string(input[:len(input)/2]), input, nil)
		p.Process(Event{Group: "g", Payload: input}, nil)
		eventually(t, "the answers", func() bool { return p.find("asker").env.inFlight.Load() == 0 })
		if h := p.Health()[0]; strings.Contains(h.LastError, "runtime error") {
			t.Fatalf("%+v", h)
		}
	})
}

// FuzzFunctionResult lets a guest answer the hooks for clients with arbitrary bits.
func FuzzFunctionResult(f *testing.F) {
	for _, v := range []uint64{
		0, 1, 2, 3, 0x10000 + 399, 0x10000 + 400, 0x10000 + 599, 0x10000 + 600, 1 << 32, 1024<<32 | 8, 0xfffffff0<<32 | 16,
		0x10<<32 | 0xffffffff, ^uint64(0),
	} {
		f.Add(v)
	}
	p := pipeline(f, Options{}, Spec{
		Name: "result", Wasm: fixture(f, "result"), Groups: []string{"*"}, MaxFailures: 1 << 20, Instances: 1, MaxResult: 4096,
		Cooldown: time.Nanosecond, // most calls fail
	})
	f.Fuzz(func(t *testing.T, v uint64) {
		input := binary.LittleEndian.AppendUint64(nil, v)
		c, _, err := p.Connect(context.Background(), "result", NewConnectionID(), input)
		var refused *RefusedError
		accepts, refuses := v == 0, v == resultDrop || v >= resultStatus+400 && v < resultStatus+600
		if accepts != (err == nil) || refuses && !errors.As(err, &refused) {
			t.Fatalf("on_connect %#x: %v", v, err)
		}
		if errors.As(err, &refused) && (refused.Status < 400 || refused.Status > 599 || !utf8.ValidString(refused.Reason)) {
			t.Fatalf("on_connect %#x: %+v", v, refused)
		}
		if err := p.Alarm(context.Background(), "result", "", input, nil); (v == 0) != (err == nil) {
			t.Fatalf("on_alarm %#x: %v", v, err)
		}
		if c == nil {
			if c, _, err = p.Connect(context.Background(), "result", NewConnectionID(), make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
		}
		s := &strict{t: t}
		c.Open(s)
		err = c.Message(true, input)
		if answered := s.count.Load() == 1; answered == (err != nil) && v != 0 || v>>32 == 0 && answered {
			t.Fatalf("on_message %#x: %v, %v", v, answered, err)
		}
		c.Ended(int(int32(v)), string(json.RawMessage("\"x\"")))
	})
}
