package main

import (
	"encoding/json"
	"testing"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

func TestSamples(t *testing.T) {
	if err := new(edgerelay.Host).Samples(onEvent, "events.ndjson"); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	h := &edgerelay.Host{Config: `{"words": ["pin"], "mask": "#"}`}
	if err := h.Init(setup); err != nil {
		t.Fatal(err)
	}
	r := h.Event(onEvent, "job_events-1", `{"stdout":"PIN=1234 password=x","Pin":1234}`)
	if want := `{"stdout":"PIN=# password=x","Pin":"#"}`; r.Payload != want {
		t.Errorf("%s instead of %s (%v)", r.Payload, want, r.Err)
	}
	for _, bad := range []string{`{"words":[""]}`, `{"mask":"\""}`} {
		if (&edgerelay.Host{Config: bad}).Init(setup) == nil {
			t.Errorf("config %s is accepted", bad)
		}
	}
	if err := new(edgerelay.Host).Init(setup); err != nil { // restore the default
		t.Error(err)
	}
}

// FuzzRedact: JSON stays JSON, redact does not panic, and a second pass finds no more secrets.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{
		`{"password":"x"}`, `{"a":"password=\"x\\\"y\" \\"}`, `{"a":"token: 'it''s' --secret \u001b"}`,
		`{"token":{"a":[1,-2.5e3,null,"x"]}}`, `{"a":"://u:p@h ://:@"}`, `{"a":"-----BEGIN PRIVATE KEY-----\\n"}`,
		`"password`, `{"secret":"`, `{"a":"password=p\u00e4\\`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := newRedactor(defaultWords, defaultMask)
		once := string(r.redact([]byte(s)))
		if once == "" {
			return
		}
		if json.Valid([]byte(s)) && !json.Valid([]byte(once)) {
			t.Fatalf("%q becomes %q", s, once)
		}
		if twice := r.redact([]byte(once)); twice != nil && json.Valid([]byte(s)) {
			t.Fatalf("%q, then %q, then %q", s, once, twice)
		}
	})
}
