package main

import (
	"os"
	"testing"
	"time"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

// TestSamples runs the samples that TestFakeHosts recorded on the real host: SAMPLES names the file, CONFIG is the
// configuration.
func TestSamples(t *testing.T) {
	h := &edgerelay.Host{Config: os.Getenv("CONFIG")}
	h.SetTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	if err := h.Init(setup); err != nil {
		t.Fatal(err)
	}
	file := os.Getenv("SAMPLES")
	if file == "" {
		return
	}
	hooks := edgerelay.Hooks{OnEvent: onEvent, OnClass: onClass, OnSubscribe: onSubscribe, OnTick: onTick}
	if err := h.Check(hooks, file); err != nil {
		t.Error(err)
	}
}
