// Package edgerelay is the SDK for plugins of the edgerelay websocket relay in Go. A plugin filters and changes
// events on their way to browsers. It is a main package that exports hooks; each export is a line that passes its
// arguments on:
//
//	//go:wasmexport ev_on_event
//	func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, filter) }
//
//	func filter(e *edgerelay.Event) edgerelay.Verdict {
//		if e.Is("status", "failed") {
//			return edgerelay.Pass
//		}
//		return edgerelay.Drop
//	}
//
//	func main() {}
//
// Build it with Go 1.24 or newer:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o plugin.wasm .
//
// The exports are ev_init ([Init]), ev_on_event ([OnEvent]), ev_on_subscribe ([OnSubscribe]), ev_on_class ([OnClass])
// and ev_on_tick ([OnTick]). A hook without an export costs the relay nothing.
//
// [Event.Set], [Event.SetString], [Event.Remove] and [Event.Rename] change a payload by path, without decoding it. Each
// edit works on the result of the edits before it, and [Event.Edited] returns the verdict at the end:
//
//	e.SetString("event_data.res.stdout", "hidden")
//	e.Remove("event_data.res.diff")
//	return e.Edited()
//
// Payload and the methods that read it stay as they are: the first edit makes a copy. An edit that cannot be made
// changes nothing and reports false. The empty path is the whole payload, which edits refuse. If a member occurs twice,
// an edit changes the first occurrence, which paths name, while browsers show the last one: for e.Remove(path) {}
// removes all of them.
//
// Plugins that answer clients are functions: see package function, [Client], [Shared], [Alarms] and [Fetch].
//
// A module imports only the functions that its code calls. [Emit], [Count], [KVGet], [KVSet], [KVIncr] and [Now] need a
// grant in the plugin's block of the Caddyfile: emit, metrics, kv, clock. So does OnTick: tick, with the interval.
//
// Outside WebAssembly, the same functions talk to a [Host], which replaces the relay. Plugins are therefore tested with
// plain go test.
//
// An instance of a plugin handles one call at a time, so variables need no locks. Instances share no memory: shared
// state belongs in the key-value store. The contract with the host is plugins/ABI.md of the relay.
package edgerelay
