//go:build wasm

package edgerelay

import (
	"strings"
	"unsafe"
)

// Imports of functions. The linker drops an import that no code calls.

//go:wasmimport ev1 connection_id
//go:noescape
func importConnectionID(p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 attachment_get
//go:noescape
func importAttachmentGet(p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 attachment_set
//go:noescape
func importAttachmentSet(p unsafe.Pointer, n uint32) int32

//go:wasmimport ev1 send
//go:noescape
func importSend(kind int32, p unsafe.Pointer, n uint32) int32

//go:wasmimport ev1 join
//go:noescape
func importJoin(p unsafe.Pointer, n uint32) int32

//go:wasmimport ev1 leave
//go:noescape
func importLeave(p unsafe.Pointer, n uint32) int32

//go:wasmimport ev1 publish
//go:noescape
func importPublish(
	group unsafe.Pointer, groupLen uint32, kind unsafe.Pointer, kindLen uint32, p unsafe.Pointer, n uint32, flags int32,
) int32

//go:wasmimport ev1 close
//go:noescape
func importClose(code int32, p unsafe.Pointer, n uint32) int32

//go:wasmimport ev1 auto_response
//go:noescape
func importAutoResponse(request unsafe.Pointer, n uint32, response unsafe.Pointer, m uint32) int32

//go:wasmimport ev1 result_context
//go:noescape
func importResultContext(p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 shared_get
//go:noescape
func importSharedGet(key unsafe.Pointer, n uint32, ctx unsafe.Pointer, m uint32) int64

//go:wasmimport ev1 shared_set
//go:noescape
func importSharedSet(
	key unsafe.Pointer, n uint32, p unsafe.Pointer, m uint32, ttl int64, ctx unsafe.Pointer, k uint32,
) int64

//go:wasmimport ev1 shared_swap
//go:noescape
func importSharedSwap(
	key unsafe.Pointer, n uint32, expected unsafe.Pointer, en uint32, p unsafe.Pointer, m uint32, ttl int64,
	ctx unsafe.Pointer, k uint32,
) int64

//go:wasmimport ev1 shared_add
//go:noescape
func importSharedAdd(key unsafe.Pointer, n uint32, delta, ttl int64, ctx unsafe.Pointer, m uint32) int64

//go:wasmimport ev1 shared_push
//go:noescape
func importSharedPush(
	key unsafe.Pointer, n uint32, p unsafe.Pointer, m uint32, limit int32, ttl int64, ctx unsafe.Pointer, k uint32,
) int64

//go:wasmimport ev1 shared_list
//go:noescape
func importSharedList(key unsafe.Pointer, n uint32, limit int32, ctx unsafe.Pointer, m uint32) int64

//go:wasmimport ev1 alarm_set
//go:noescape
func importAlarmSet(
	name unsafe.Pointer, n uint32, p unsafe.Pointer, m uint32, at int64, ctx unsafe.Pointer, k uint32,
) int64

//go:wasmimport ev1 alarm_cancel
//go:noescape
func importAlarmCancel(name unsafe.Pointer, n uint32, ctx unsafe.Pointer, m uint32) int64

//go:wasmimport ev1 fetch
//go:noescape
func importFetch(request unsafe.Pointer, n uint32, body unsafe.Pointer, m uint32, ctx unsafe.Pointer, k uint32) int64

func hostConnectionID(b []byte) int  { return int(importConnectionID(slice(b))) }
func hostAttachmentGet(b []byte) int { return int(importAttachmentGet(slice(b))) }
func hostResultContext(b []byte) int { return int(importResultContext(slice(b))) }

func hostAttachmentSet(text string) int32 { return importAttachmentSet(str(text)) }
func hostJoin(group string) int32         { return importJoin(str(group)) }
func hostLeave(group string) int32        { return importLeave(str(group)) }

func hostSend(kind int32, text string) int32 {
	p, n := str(text)
	return importSend(kind, p, n)
}

func hostPublish(group, kind, text string, flags int32) int32 {
	g, gn := str(group)
	t, tn := str(kind)
	p, n := str(text)
	return importPublish(g, gn, t, tn, p, n, flags)
}

func hostClose(code int32, reason string) int32 {
	p, n := str(reason)
	return importClose(code, p, n)
}

func hostAutoResponse(request, response string) int32 {
	p, n := str(request)
	q, m := str(response)
	return importAutoResponse(p, n, q, m)
}

func hostSharedGet(key, ctx string) int64 {
	p, n := str(key)
	c, k := str(ctx)
	return importSharedGet(p, n, c, k)
}

func hostSharedSet(key, value string, ttl int64, ctx string) int64 {
	p, n := str(key)
	q, m := str(value)
	c, k := str(ctx)
	return importSharedSet(p, n, q, m, ttl, c, k)
}

func hostSharedSwap(key, expected, value string, ttl int64, ctx string) int64 {
	p, n := str(key)
	e, en := str(expected)
	q, m := str(value)
	c, k := str(ctx)
	return importSharedSwap(p, n, e, en, q, m, ttl, c, k)
}

func hostSharedAdd(key string, delta, ttl int64, ctx string) int64 {
	p, n := str(key)
	c, k := str(ctx)
	return importSharedAdd(p, n, delta, ttl, c, k)
}

func hostSharedPush(key, value string, limit int32, ttl int64, ctx string) int64 {
	p, n := str(key)
	q, m := str(value)
	c, k := str(ctx)
	return importSharedPush(p, n, q, m, limit, ttl, c, k)
}

func hostSharedList(key string, limit int32, ctx string) int64 {
	p, n := str(key)
	c, k := str(ctx)
	return importSharedList(p, n, limit, c, k)
}

func hostAlarmSet(name, payload string, at int64, ctx string) int64 {
	p, n := str(name)
	q, m := str(payload)
	c, k := str(ctx)
	return importAlarmSet(p, n, q, m, at, c, k)
}

func hostAlarmCancel(name, ctx string) int64 {
	p, n := str(name)
	c, k := str(ctx)
	return importAlarmCancel(p, n, c, k)
}

func hostFetch(request, body, ctx string) int64 {
	p, n := str(request)
	q, m := str(body)
	c, k := str(ctx)
	return importFetch(p, n, q, m, c, k)
}

var (
	client  Client
	connect Connect
	message Message
)

// OnConnect is for the export ev_on_connect: hook decides about a connection. See also package function.
//
//	//go:wasmexport ev_on_connect
//	func OnConnect(size uint32) uint64 { return edgerelay.OnConnect(size, hook) }
func OnConnect(size uint32, hook func(*Connect) Admission) uint64 {
	connect.Payload = input[:size:size]
	return uint64(hook(&connect))
}

// OnMessage is for the export ev_on_message: hook gets a message of a client. An error discards the effects.
//
//	//go:wasmexport ev_on_message
//	func OnMessage(kind, size uint32) uint64 { return edgerelay.OnMessage(kind, size, hook) }
func OnMessage(kind, size uint32, hook func(*Client, *Message) error) uint64 {
	message = Message{Document: Document{Payload: input[:size:size]}, Binary: kind == 1}
	if v := verdictOf(hook(&client, &message)); v != 0 || !message.replies {
		return v
	}
	return result(message.reply)
}

// OnClose is for the export ev_on_close: hook learns that a client is gone.
//
//	//go:wasmexport ev_on_close
//	func OnClose(code, size uint32) uint64 { return edgerelay.OnClose(code, size, hook) }
func OnClose(code, size uint32, hook func(*Client, *Closing) error) uint64 {
	return verdictOf(hook(&client, &Closing{int(code), string(input[:size])}))
}

// OnResult is for the export ev_on_result: it calls the continuation of a request.
//
//	//go:wasmexport ev_on_result
//	func OnResult(token uint64, status int32, size uint32) uint64 {
//		return edgerelay.OnResult(token, status, size, results)
//	}
func OnResult(_ uint64, status int32, size uint32, results Results) uint64 {
	context, _ := text(func(_ string, b []byte) int { return hostResultContext(b) }, "")
	name, context, named := strings.Cut(context, "\x00")
	if !named {
		return 0
	}
	hook := results[name]
	if hook == nil {
		return verdictOf(unknownContinuation(name))
	}
	return verdictOf(hook(&client, &Response{status, context, Document{input[:size:size]}}))
}

// OnAlarm is for the export ev_on_alarm: hook runs when an alarm is due.
//
//	//go:wasmexport ev_on_alarm
//	func OnAlarm(name, payload uint32) uint64 { return edgerelay.OnAlarm(name, payload, hook) }
func OnAlarm(name, payload uint32, hook func(*Alarm) error) uint64 {
	end := name + payload
	return verdictOf(hook(&Alarm{string(input[:name]), Document{input[name:end:end]}}))
}

// verdictOf logs an error and returns the result of a hook. That a client has left is no failure.
func verdictOf(err error) uint64 {
	if err == nil || err == ErrNoClient {
		return 0
	}
	Log(LevelError, err.Error())
	return 2
}
