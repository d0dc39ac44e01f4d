// Package edgerelay is for plugins of the edgerelay websocket relay written in Go: they filter and change events on their way to
// browsers. A plugin is a main package that exports the hooks it wants; each export is one line that hands its arguments on:
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
// It is built with Go 1.24 or newer:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o plugin.wasm .
//
// The exports are ev_init ([Init]), ev_on_event ([OnEvent]), ev_on_subscribe ([OnSubscribe]) and ev_on_class ([OnClass]). A hook that
// is not exported costs the relay nothing.
//
// A module imports only what its code calls. [Emit], [Count], [KVGet], [KVSet], [KVIncr] and [Now] need a grant in the plugin's block
// of the Caddyfile: emit, metrics, kv, clock.
//
// Outside WebAssembly the same functions talk to a [Host], a stand-in for the relay, so that plugins are tested by plain go test.
//
// A plugin's instance does one call at a time, so its variables need no locks. Instances share no memory; what must be shared goes
// through the key-value store. The contract beneath is plugins/ABI.md of the relay.
package edgerelay
