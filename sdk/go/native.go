//go:build !wasm

package edgerelay

import "slices"

// Outside WebAssembly the host is the Host whose call is in flight. The lock running lets one call run at a time.
var (
	current *Host
	kept    []byte
)

func host() *Host {
	if current == nil {
		panic(
			"edgerelay: no host outside WebAssembly; use Host.Event, Host.Class, Host.Subscribe, Host.Tick or Host.Init",
		)
	}
	return current
}

func hostLog(level int32, text string) { host().log(Level(level), text) }

func hostConfig(b []byte) int                      { return copyOut(host().config(), b) }
func hostConfigGet(path string, b []byte) int      { return lookup(host().config(), path, b) }
func hostJSONGet(path string, b []byte) int        { return lookup(host().document, path, b) }
func hostAudience(mask uint64)                     { host().restrict(mask) }
func hostMetricAdd(name string, delta int64) int32 { return host().count(name, delta) }
func hostEventSent() int64                         { return host().sent() }

func hostNow() int64 {
	host().need("clock")
	return host().now().UnixMilli()
}

func hostEventSource(b []byte) int {
	source, ok := host().source()
	if !ok {
		return -1
	}
	return copyOut(source, b)
}

func hostJSONFind(path string) int64 {
	from, to, ok := find(host().document, path)
	if !ok {
		return -1
	}
	return int64(from)<<32 | int64(to-from)
}

func hostEventPosition(b []byte) int {
	position, ok := host().position()
	if !ok {
		return -1
	}
	return copyOut(position, b)
}

func hostEmit(group string, payload []byte, mask uint64) int32 {
	return host().emit(group, slices.Clone(payload), mask, "")
}

func hostEmitAt(group string, payload []byte, mask uint64, position string) int32 {
	if position != "" && !validPosition(position) {
		return int32(ErrPosition)
	}
	return host().emit(group, slices.Clone(payload), mask, position)
}

func hostKVGet(key string, b []byte) int {
	h := host()
	h.need("kv")
	value, ok := h.get(key)
	if !ok {
		return -1
	}
	return copyOut(value, b)
}

func hostKVSet(key, value string, ttl int64) int32 {
	h := host()
	h.need("kv")
	return h.set(key, value, ttl)
}

func hostKVIncr(key string, delta, ttl int64) int64 {
	h := host()
	h.need("kv")
	return h.incr(key, delta, ttl)
}

// copyOut returns the length, and copies the bytes if there is room, as the relay does.
func copyOut[T string | []byte](value T, b []byte) int {
	if len(value) <= len(b) {
		copy(b, value)
	}
	return len(value)
}

func lookup(doc []byte, path string, b []byte) int {
	from, to, ok := find(doc, path)
	if !ok {
		return -1
	}
	return copyOut(decoded(doc[from:to]), b)
}

// result replaces a pointer and a length; Host reads kept.
func result(b []byte) uint64 {
	kept = b
	return 1<<32 | uint64(uint32(len(b)))
}

const wasmOnly = "edgerelay: only for exports of the module; use a Host in tests"

// Init is for the export ev_init: it runs setup before any event. If setup fails, the relay rejects the plugin with
// that error. Outside WebAssembly use [Host.Init].
func Init(func() error) int32 { panic(wasmOnly) }

// OnEvent is for the export ev_on_event: hook decides about every event. Outside WebAssembly use [Host.Event].
func OnEvent(_, _ uint32, _ func(*Event) Verdict) uint64 { panic(wasmOnly) }

// OnClass is for the export ev_on_class: hook renders an event for the subscribers of a class. Outside WebAssembly use
// [Host.Class].
func OnClass(_, _, _ uint32, _ func(uint8, *Event) Verdict) uint64 { panic(wasmOnly) }

// OnSubscribe is for the export ev_on_subscribe: hook decides about subscriptions and the subscribers' classes. Outside
// WebAssembly use [Host.Subscribe].
func OnSubscribe(_ uint32, _ func(*Request) Answer) uint64 { panic(wasmOnly) }

// OnTick is for the export ev_on_tick: hook runs at each interval of the grant tick. Outside WebAssembly use
// [Host.Tick].
func OnTick(func() error) uint64 { panic(wasmOnly) }
