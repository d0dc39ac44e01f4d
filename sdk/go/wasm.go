//go:build wasm

package edgerelay

import "unsafe"

// Imports. The linker drops an import that no code calls.

//go:wasmimport ev1 log
//go:noescape
func importLog(level int32, p unsafe.Pointer, n uint32)

//go:wasmimport ev1 config
//go:noescape
func importConfig(p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 config_get
//go:noescape
func importConfigGet(path unsafe.Pointer, n uint32, p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 json_get
//go:noescape
func importJSONGet(path unsafe.Pointer, n uint32, p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 json_find
//go:noescape
func importJSONFind(path unsafe.Pointer, n uint32) int64

//go:wasmimport ev1 audience
func importAudience(mask uint64)

//go:wasmimport ev1 emit
//go:noescape
func importEmit(group unsafe.Pointer, groupLen uint32, p unsafe.Pointer, n uint32, mask uint64) int32

//go:wasmimport ev1 emit_at
//go:noescape
func importEmitAt(
	group unsafe.Pointer, groupLen uint32, p unsafe.Pointer, n uint32, mask uint64, position unsafe.Pointer, positionLen uint32,
) int32

//go:wasmimport ev1 metric_add
//go:noescape
func importMetricAdd(name unsafe.Pointer, n uint32, delta int64) int32

//go:wasmimport ev1 kv_get
//go:noescape
func importKVGet(key unsafe.Pointer, n uint32, p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 kv_set
//go:noescape
func importKVSet(key unsafe.Pointer, keyLen uint32, p unsafe.Pointer, n uint32, ttl int64) int32

//go:wasmimport ev1 kv_incr
//go:noescape
func importKVIncr(key unsafe.Pointer, n uint32, delta, ttl int64) int64

//go:wasmimport ev1 now_ms
func importNow() int64

//go:wasmimport ev1 event_source
//go:noescape
func importEventSource(p unsafe.Pointer, limit uint32) int32

//go:wasmimport ev1 event_sent_ms
func importEventSent() int64

//go:wasmimport ev1 event_position
//go:noescape
func importEventPosition(p unsafe.Pointer, limit uint32) int32

func str(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func slice(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

func hostLog(level int32, text string) {
	p, n := str(text)
	importLog(level, p, n)
}

func hostConfig(b []byte) int { return int(importConfig(slice(b))) }

func hostConfigGet(path string, b []byte) int {
	p, n := str(path)
	q, m := slice(b)
	return int(importConfigGet(p, n, q, m))
}

func hostJSONGet(path string, b []byte) int {
	p, n := str(path)
	q, m := slice(b)
	return int(importJSONGet(p, n, q, m))
}

func hostJSONFind(path string) int64 { return importJSONFind(str(path)) }
func hostAudience(mask uint64)       { importAudience(mask) }

func hostEmit(group string, payload []byte, mask uint64) int32 {
	p, n := str(group)
	q, m := slice(payload)
	return importEmit(p, n, q, m, mask)
}

func hostEmitAt(group string, payload []byte, mask uint64, position string) int32 {
	p, n := str(group)
	q, m := slice(payload)
	at, size := str(position)
	return importEmitAt(p, n, q, m, mask, at, size)
}

func hostMetricAdd(name string, delta int64) int32 {
	p, n := str(name)
	return importMetricAdd(p, n, delta)
}

func hostKVGet(key string, b []byte) int {
	p, n := str(key)
	q, m := slice(b)
	return int(importKVGet(p, n, q, m))
}

func hostKVSet(key, value string, ttl int64) int32 {
	p, n := str(key)
	q, m := str(value)
	return importKVSet(p, n, q, m, ttl)
}

func hostKVIncr(key string, delta, ttl int64) int64 {
	p, n := str(key)
	return importKVIncr(p, n, delta, ttl)
}

func hostNow() int64               { return importNow() }
func hostEventSource(b []byte) int { return int(importEventSource(slice(b))) }
func hostEventSent() int64         { return importEventSent() }

func hostEventPosition(b []byte) int { return int(importEventPosition(slice(b))) }

// input is the buffer that the host writes to. kept holds the last result until the next call.
var (
	input []byte
	kept  []byte

	event   Event
	request Request
)

//go:wasmexport ev_abi_version
func abiVersion() int32 { return 1 }

//go:wasmexport ev_buffer
func buffer(size uint32) uint32 {
	if size > 1<<30 {
		return 0
	}
	if uint32(len(input)) < size {
		input = make([]byte, size)
	}
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(input))))
}

// result keeps b alive and packs its address and length.
func result(b []byte) uint64 {
	if cap(b) == 0 {
		b = make([]byte, 0, 1) // an empty result needs a pointer, too
	}
	kept = b
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))<<32 | uint64(len(b))
}

func take(group, payload uint32) *Event {
	end := group + payload
	event.Group = unsafe.String(unsafe.SliceData(input), group)
	event.Payload = input[group:end:end]
	event.arrived = event.Payload
	event.changed, event.lost, event.splices = false, false, event.splices[:0]
	return &event
}

// Init is for the export ev_init: it runs setup before any event. If setup fails, the relay rejects the plugin with
// that error.
//
//	//go:wasmexport ev_init
//	func Init() int32 { return edgerelay.Init(setup) }
func Init(setup func() error) int32 {
	if err := setup(); err != nil {
		Log(LevelError, err.Error())
		return 1
	}
	return 0
}

// OnEvent is for the export ev_on_event: hook decides about every event.
//
//	//go:wasmexport ev_on_event
//	func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, hook) }
func OnEvent(group, payload uint32, hook func(*Event) Verdict) uint64 {
	return uint64(hook(take(group, payload)))
}

// OnClass is for the export ev_on_class: hook renders an event for the subscribers of a class.
//
//	//go:wasmexport ev_on_class
//	func OnClass(class, group, payload uint32) uint64 { return edgerelay.OnClass(class, group, payload, hook) }
func OnClass(class, group, payload uint32, hook func(class uint8, e *Event) Verdict) uint64 {
	return uint64(hook(uint8(class), take(group, payload)))
}

// OnSubscribe is for the export ev_on_subscribe: hook decides about subscriptions and the subscribers' classes.
//
//	//go:wasmexport ev_on_subscribe
//	func OnSubscribe(request uint32) uint64 { return edgerelay.OnSubscribe(request, hook) }
func OnSubscribe(size uint32, hook func(*Request) Answer) uint64 {
	request.Payload = input[:size:size]
	return uint64(hook(&request))
}

// OnTick is for the export ev_on_tick: hook runs at each interval of the grant tick, on every instance. It has no
// event: emitted events need a group. An error discards the instance.
//
//	//go:wasmexport ev_on_tick
//	func OnTick() uint64 { return edgerelay.OnTick(hook) }
func OnTick(hook func() error) uint64 {
	if err := hook(); err != nil {
		Log(LevelError, err.Error())
		return uint64(Error)
	}
	return uint64(Pass)
}
