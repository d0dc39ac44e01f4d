//go:build !wasm

package edgerelay

import "slices"

// Outside WebAssembly the host is the Host whose call is under way; its lock lets one call run at a time.
var (
	current *Host
	kept    []byte
)

func host() *Host {
	if current == nil {
		panic("edgerelay: outside WebAssembly the relay is a Host; call the hook by Host.Event, Host.Class, Host.Subscribe or Host.Init")
	}
	return current
}

func hostLog(level int32, text string) {
	h := host()
	h.Logged = append(h.Logged, text[:min(len(text), 4096)])
}

func hostConfig(b []byte) int                      { return give(host().config(), b) }
func hostConfigGet(path string, b []byte) int      { return lookup(host().config(), path, b) }
func hostJSONGet(path string, b []byte) int        { return lookup(host().document, path, b) }
func hostAudience(mask uint64)                     { host().restrict(mask) }
func hostMetricAdd(name string, delta int64) int32 { return host().count(name, delta) }
func hostNow() int64                               { return host().now().UnixMilli() }

func hostJSONFind(path string) int64 {
	from, to, ok := find(host().document, path)
	if !ok {
		return -1
	}
	return int64(from)<<32 | int64(to-from)
}

func hostEmit(group string, payload []byte, mask uint64) int32 {
	return host().emit(group, slices.Clone(payload), mask)
}

func hostKVGet(key string, b []byte) int {
	value, ok := host().get(key)
	if !ok {
		return -1
	}
	return give(value, b)
}

func hostKVSet(key, value string, ttl int64) int32        { return host().set(key, value, ttl) }
func hostKVIncr(key string, delta, ttl int64) (sum int64) { return host().incr(key, delta, ttl) }

// give answers as the relay does: with the length, and the bytes if there is room.
func give[T string | []byte](value T, b []byte) int {
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
	return give(decoded(doc[from:to]), b)
}

// result stands for a pointer and a length; Host reads kept.
func result(b []byte) uint64 {
	kept = b
	return 1<<32 | uint64(uint32(len(b)))
}

const wasmOnly = "edgerelay: this is for the module's export; in a test use a Host"

// Init is for the export ev_init: it runs setup before any event, and if that fails the relay refuses the plugin with its error.
// Outside WebAssembly use [Host.Init].
func Init(func() error) int32 { panic(wasmOnly) }

// OnEvent is for the export ev_on_event: hook decides about every event. Outside WebAssembly use [Host.Event].
func OnEvent(_, _ uint32, _ func(*Event) Verdict) uint64 { panic(wasmOnly) }

// OnClass is for the export ev_on_class: hook renders an event for the subscribers of one class. Outside WebAssembly use [Host.Class].
func OnClass(_, _, _ uint32, _ func(uint8, *Event) Verdict) uint64 { panic(wasmOnly) }

// OnSubscribe is for the export ev_on_subscribe: hook decides who may subscribe to what, and in which class. Outside WebAssembly use
// [Host.Subscribe].
func OnSubscribe(_ uint32, _ func(*Request) Answer) uint64 { panic(wasmOnly) }
