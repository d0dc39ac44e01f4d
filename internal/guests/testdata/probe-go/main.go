// The probe does what an event's "do" says, by every function of the SDK: the four SDKs' probes must do the same.
package main

import (
	"errors"
	"strconv"
	"strings"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

//go:wasmexport ev_init
func Init() int32 { return edgerelay.Init(setup) }

func setup() error {
	if why, ok := edgerelay.ConfigText("refuse"); ok {
		return errors.New(why)
	}
	return nil
}

//go:wasmexport ev_on_event
func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, onEvent) }

//go:wasmexport ev_on_class
func OnClass(class, group, payload uint32) uint64 {
	return edgerelay.OnClass(class, group, payload, onClass)
}

//go:wasmexport ev_on_subscribe
func OnSubscribe(request uint32) uint64 { return edgerelay.OnSubscribe(request, onSubscribe) }

//go:wasmexport ev_on_tick
func OnTick() uint64 { return edgerelay.OnTick(onTick) }

// onTick emits what the store holds for ticks to the group ticks, and fails if it is "error".
func onTick() error {
	text, ok := edgerelay.KVGet("tick")
	if !ok {
		return nil
	}
	if text == "error" {
		return errors.New("it was asked for")
	}
	edgerelay.Audience(4)
	if edgerelay.Emit("", []byte(text)) != edgerelay.ErrName {
		return errors.New("a tick has no group")
	}
	return edgerelay.Emit("ticks", []byte(text))
}

func say(s string) edgerelay.Verdict { return edgerelay.Replace([]byte(s)) }

func number(n int64) edgerelay.Verdict { return say(strconv.FormatInt(n, 10)) }

func yes(b bool) edgerelay.Verdict {
	if b {
		return say("yes")
	}
	return say("no")
}

func orNone(s string, ok bool) edgerelay.Verdict {
	if !ok {
		return say("none")
	}
	return say(s)
}

// edit makes the edits that the event's source names, and emits what each of them returns.
func edit(e *edgerelay.Event) edgerelay.Verdict {
	var made []byte
	for _, op := range strings.Split(e.Source(), "\x03") {
		p, ok := strings.Split(op, "\x02"), false
		switch p[0] {
		case "set":
			ok = e.Set(p[1], p[2])
		case "set_string":
			ok = e.SetString(p[1], p[2])
		case "remove":
			ok = e.Remove(p[1])
		case "rename":
			ok = e.Rename(p[1], p[2])
		}
		if ok {
			made = append(made, '1')
		} else {
			made = append(made, '0')
		}
	}
	_ = edgerelay.Emit("edits-made", made)
	return e.Edited()
}

func onEvent(e *edgerelay.Event) edgerelay.Verdict {
	if e.Group == "edits" {
		return edit(e)
	}
	arg := func(name string) string { s, _ := e.Text(name); return s }
	switch arg("do") {
	case "drop":
		return edgerelay.Drop
	case "error":
		return edgerelay.Fail("it was asked for")
	case "replace":
		return say(arg("with"))
	case "insert":
		return e.Insert(`"seen":true`)
	case "group":
		return say(e.Group)
	case "payload":
		return edgerelay.Replace(e.Payload)
	case "text":
		return orNone(e.Text(arg("path")))
	case "is":
		return yes(e.Is(arg("path"), arg("want")))
	case "has":
		return yes(e.Has(arg("path")))
	case "int":
		n, ok := e.Int(arg("path"))
		if !ok {
			n = -1
		}
		return number(n)
	case "find":
		from, to, ok := e.Find(arg("path"))
		return orNone(string(e.Payload[from:to]), ok)
	case "emit":
		var err edgerelay.EmitError
		if errors.As(edgerelay.Emit(arg("to"), []byte(arg("with"))), &err) {
			return number(int64(err))
		}
		return number(0)
	case "emit_at":
		var err edgerelay.EmitError
		if errors.As(edgerelay.EmitAt(arg("to"), []byte(arg("with")), arg("at")), &err) {
			return number(int64(err))
		}
		return number(0)
	case "emit_for":
		_ = edgerelay.EmitFor("", []byte("{}"), 2)
	case "audience":
		edgerelay.Audience(6)
		edgerelay.Audience(12)
	case "count":
		return yes(edgerelay.Count(arg("name"), 2))
	case "kv_set":
		return yes(edgerelay.KVSet(arg("key"), arg("value"), 1000))
	case "kv_get":
		return orNone(edgerelay.KVGet(arg("key")))
	case "kv_incr":
		n, ok := edgerelay.KVIncr(arg("key"), 3, 1000)
		return orNone(strconv.FormatInt(n, 10), ok)
	case "now":
		return number(edgerelay.Now())
	case "source":
		return orNone(e.Source(), e.Source() != "")
	case "position":
		return orNone(e.Position(), e.Position() != "")
	case "replay":
		return yes(e.IsReplay())
	case "sent":
		if ms, ok := e.Sent(); ok {
			return number(ms)
		}
		return number(-1)
	case "config":
		return edgerelay.Replace(edgerelay.Config())
	case "config_text":
		return orNone(edgerelay.ConfigText(arg("path")))
	case "config_int":
		return number(edgerelay.ConfigInt(arg("path"), -1))
	case "config_list":
		return say(strings.Join(edgerelay.ConfigList(arg("path")), ","))
	}
	return edgerelay.Pass
}

func onClass(class uint8, e *edgerelay.Event) edgerelay.Verdict {
	switch class {
	case 1:
		return edgerelay.Drop
	case 2:
		return say(e.Group)
	}
	return edgerelay.Pass
}

func onSubscribe(r *edgerelay.Request) edgerelay.Answer {
	switch s, _ := r.Text("user.do"); s {
	case "deny":
		return edgerelay.Deny
	case "reason":
		return edgerelay.DenyBecause("not yours")
	case "class":
		return edgerelay.AllowAs(5)
	}
	return edgerelay.Allow
}

func main() {}
