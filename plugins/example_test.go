package plugins_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/edgerelay/edgerelay/plugins"
)

// A pipeline with one plugin, and an event through it.
func Example() {
	ctx := context.Background()
	wasm, err := os.ReadFile("testdata/actor.wasm")
	if err != nil {
		log.Fatal(err)
	}
	p, err := plugins.New(plugins.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	err = p.Apply(ctx, []plugins.Spec{{
		Name:   "actor",
		Wasm:   wasm,
		Groups: []string{"job_events-*"},
		Grants: plugins.Grants,
	}})
	if err != nil {
		log.Fatal(err)
	}

	var out []plugins.Output // kept from event to event
	out = p.Process(plugins.Event{Group: "job_events-42", Payload: []byte(`{"do":"split"}`)}, out[:0])
	for _, o := range out {
		fmt.Printf("%s %s, for classes %x\n", o.Group, o.Payload, o.Audience)
	}

	d, err := p.Subscribe(ctx, []byte(`{"id":7,"do":"class"}`), "job_events-42")
	fmt.Println(d.Allow, d.Class, err)
	// Output:
	// job_events-42 {"part":1}, for classes ffffffffffffffff
	// job_events-42 {"part":2}, for classes ffffffffffffffff
	// job_events-42 {"part":3}, for classes 6
	// true 5 <nil>
}
