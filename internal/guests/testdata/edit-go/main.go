// The benchmark's plugin for edits: the group names how many.
package main

import edgerelay "github.com/edgerelay/edgerelay/sdk/go"

//go:wasmexport ev_on_event
func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, edit) }

func edit(e *edgerelay.Event) edgerelay.Verdict {
	e.SetString("status", "canceled")
	if e.Group == "three" {
		e.Remove("uuid")
		e.Rename("event", "kind")
	}
	return e.Edited()
}

func main() {}
