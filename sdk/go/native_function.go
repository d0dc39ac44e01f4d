//go:build !wasm

package edgerelay

import "time"

func hostConnectionID(b []byte) int {
	c := host().client
	if c == nil {
		return -1
	}
	return copyOut(c.ID, b)
}

func hostAttachmentGet(b []byte) int {
	if c := host().client; c != nil {
		return copyOut(c.pending.attachment, b)
	}
	return 0
}

func hostAttachmentSet(text string) int32  { return host().attach(text) }
func hostSend(kind int32, t string) int32  { return host().send(Frame{Text: t, Binary: kind == 1}) }
func hostJoin(group string) int32          { return host().subscribe(group, true) }
func hostLeave(group string) int32         { return host().subscribe(group, false) }
func hostAutoResponse(q, a string) int32   { return host().autoRespond(q, a) }
func hostClose(code int32, r string) int32 { return host().closeClient(int(code), r) }

func hostPublish(group, kind, text string, flags int32) int32 {
	return host().publish(Publication{Group: group, Type: kind, Payload: text, Others: flags&1 != 0})
}

func hostSharedGet(key, ctx string) int64 {
	return host().ask(serviceRequest{op: opGet, key: key, context: ctx})
}

func hostSharedSet(key, value string, ttl int64, ctx string) int64 {
	return host().ask(serviceRequest{op: opSet, key: key, value: value, ttl: ttl, context: ctx})
}

func hostSharedSwap(key, expected, value string, ttl int64, ctx string) int64 {
	return host().ask(serviceRequest{op: opSwap, key: key, expected: expected, value: value, ttl: ttl, context: ctx})
}

func hostSharedAdd(key string, delta, ttl int64, ctx string) int64 {
	return host().ask(serviceRequest{op: opAdd, key: key, number: delta, ttl: ttl, context: ctx})
}

func hostSharedPush(key, value string, limit int32, ttl int64, ctx string) int64 {
	return host().ask(serviceRequest{op: opPush, key: key, value: value, number: int64(limit), ttl: ttl, context: ctx})
}

func hostSharedList(key string, limit int32, ctx string) int64 {
	return host().ask(serviceRequest{op: opList, key: key, number: int64(limit), context: ctx})
}

func hostAlarmSet(name, payload string, at int64, ctx string) int64 {
	when := time.UnixMilli(at)
	if at < 1e12 {
		when = host().now().Add(time.Duration(at) * time.Millisecond)
	}
	return host().ask(serviceRequest{op: opAlarm, key: name, value: payload, at: when, context: ctx})
}

func hostAlarmCancel(name, ctx string) int64 {
	return host().ask(serviceRequest{op: opCancel, key: name, context: ctx})
}

func hostFetch(request, body, ctx string) int64 {
	return host().ask(serviceRequest{op: opFetch, key: request, value: body, context: ctx})
}

// OnConnect is for the export ev_on_connect: hook decides about a connection. Outside WebAssembly use [Host.Connect].
func OnConnect(uint32, func(*Connect) Admission) uint64 { panic(wasmOnly) }

// OnMessage is for the export ev_on_message: hook gets a message of a client. Outside WebAssembly use
// [TestClient.Text].
func OnMessage(_, _ uint32, _ func(*Client, *Message) error) uint64 { panic(wasmOnly) }

// OnClose is for the export ev_on_close: hook learns that a client is gone. Outside WebAssembly use
// [TestClient.Disconnect].
func OnClose(_, _ uint32, _ func(*Client, *Closing) error) uint64 { panic(wasmOnly) }

// OnResult is for the export ev_on_result: it calls the continuation of a request. Outside WebAssembly [Host] does.
func OnResult(uint64, int32, uint32, Results) uint64 { panic(wasmOnly) }

// OnAlarm is for the export ev_on_alarm: hook runs when an alarm is due. Outside WebAssembly use [Host.Advance].
func OnAlarm(_, _ uint32, _ func(*Alarm) error) uint64 { panic(wasmOnly) }
