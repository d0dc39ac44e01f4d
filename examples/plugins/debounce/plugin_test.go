package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

func host(t *testing.T, config string) *edgerelay.Host {
	t.Helper()
	h := &edgerelay.Host{Config: config, Grants: []string{"clock", "emit", "tick"}}
	h.SetTime(time.UnixMilli(1_767_323_045_000))
	if err := h.Init(setup); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSamples(t *testing.T) {
	hooks := edgerelay.Hooks{OnEvent: onEvent, OnTick: onTick}
	if err := host(t, `{"key": "host", "wait_ms": 500, "max_wait_ms": 2000}`).Check(hooks, "events.ndjson"); err != nil {
		t.Error(err)
	}
}

func TestWrongSettings(t *testing.T) {
	for _, config := range []string{`{"wait_ms": 0}`, `{"wait_ms": 100, "max_wait_ms": 50}`} {
		if err := (&edgerelay.Host{Config: config}).Init(setup); err == nil {
			t.Errorf("%s is accepted", config)
		}
	}
}

// TestManyThings: a call may emit 16 events; later ticks deliver the others, in the order of the things' first events.
func TestManyThings(t *testing.T) {
	h := host(t, `{"key": "host"}`)
	for i := range 40 {
		if r := h.Event(onEvent, "hosts-1", fmt.Sprintf(`{"host":"h%d"}`, i)); r.Verdict != "drop" {
			t.Fatalf("event %d: %+v", i, r)
		}
	}
	h.Advance(time.Second)
	n := 0
	for _, want := range []int{16, 16, 8, 0} {
		r := h.Tick(onTick)
		if r.Err != nil || len(r.Emitted) != want {
			t.Fatalf("%d events are emitted, want %d (%v)", len(r.Emitted), want, r.Err)
		}
		for _, e := range r.Emitted {
			if want := fmt.Sprintf(`{"host":"h%d"}`, n); e.Payload != want || e.Group != "hosts-1" {
				t.Errorf("emitted %s to %s, want %s", e.Payload, e.Group, want)
			}
			n++
		}
	}
}

// TestMemoryIsBounded: events that would need too much memory pass.
func TestMemoryIsBounded(t *testing.T) {
	h := host(t, `{}`)
	large := `{"pad":"` + strings.Repeat("x", maxBytes/2) + `"}`
	for i, want := range []string{"drop", "pass"} {
		if r := h.Event(onEvent, fmt.Sprint("g-", i), large); r.Verdict != want {
			t.Errorf("event %d: %s, want %s", i, r.Verdict, want)
		}
	}
}
