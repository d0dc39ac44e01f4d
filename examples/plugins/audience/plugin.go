// Command audience is an edgerelay plugin that shows the results of jobs to privileged users only. All other users
// get the events without the fields named in the configuration.
package main

import (
	"errors"
	"slices"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

// Classes of subscribers. Subscribers without a call of ev_on_subscribe are in class 0, which sees less.
const (
	public     = 0
	privileged = 1
)

var (
	names []string // of privileged users
	strip []string // paths
)

//go:wasmexport ev_init
func Init() int32 { return edgerelay.Init(setup) }

//go:wasmexport ev_on_subscribe
func OnSubscribe(request uint32) uint64 { return edgerelay.OnSubscribe(request, onSubscribe) }

//go:wasmexport ev_on_class
func OnClass(class, group, payload uint32) uint64 {
	return edgerelay.OnClass(class, group, payload, onClass)
}

func setup() error {
	names, strip = edgerelay.ConfigList("privileged"), edgerelay.ConfigList("strip")
	if len(strip) == 0 {
		return errors.New(`config: no fields to strip; add {"strip": ["event_data.res", "stdout"]}`)
	}
	return nil
}

func onSubscribe(r *edgerelay.Request) edgerelay.Answer {
	name, _ := r.Text("user.username")
	if r.Is("user.is_superuser", "true") || name != "" && slices.Contains(names, name) {
		return edgerelay.AllowAs(privileged)
	}
	return edgerelay.AllowAs(public)
}

// onClass is called once for every class among a group's subscribers.
func onClass(class uint8, e *edgerelay.Event) edgerelay.Verdict {
	if class == privileged {
		return edgerelay.Pass
	}
	for _, path := range strip {
		if e.Has(path) { // Set would add a missing field
			e.Set(path, "null")
		}
	}
	return e.Edited()
}

func main() {}
