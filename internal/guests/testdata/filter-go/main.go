// The benchmark's plugin: what passes has failed.
package main

import edgerelay "github.com/edgerelay/edgerelay/sdk/go"

//go:wasmexport ev_on_event
func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, filter) }

func filter(e *edgerelay.Event) edgerelay.Verdict {
	if e.Is("status", "failed") {
		return edgerelay.Pass
	}
	return edgerelay.Drop
}

func main() {}
