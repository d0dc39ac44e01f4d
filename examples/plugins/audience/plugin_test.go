package main

import (
	"testing"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

func host(t *testing.T) *edgerelay.Host {
	h := &edgerelay.Host{
		Config: `{"privileged": ["alice"], "strip": ["stdout", "event_data.res", "event_data.res.stdout"]}`,
	}
	if err := h.Init(setup); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSamples(t *testing.T) {
	hooks := edgerelay.Hooks{OnClass: onClass, OnSubscribe: onSubscribe}
	if err := host(t).Check(hooks, "classes.ndjson"); err != nil {
		t.Error(err)
	}
}

func TestClasses(t *testing.T) {
	h := host(t)
	for user, class := range map[string]uint8{
		`{"username":"alice"}`:                    privileged,
		`{"username":"bob"}`:                      public,
		`{"username":"bob","is_superuser":true}`:  privileged,
		`{"username":"bob","is_superuser":false}`: public,
		`null`: public,
	} {
		if d := h.Subscribe(onSubscribe, user, "job_events-42"); !d.Allow || d.Class != class {
			t.Errorf("%s: %+v", user, d)
		}
	}
}

func TestConfigIsNeeded(t *testing.T) {
	if new(edgerelay.Host).Init(setup) == nil {
		t.Error("no config is accepted")
	}
}
