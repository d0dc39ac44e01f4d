package plugins

import (
	"strings"
	"testing"
	"time"
)

// TestEmissionsOfACallAreBounded: a call may return eight times a large event, and emit as much in all, not in each of
// sixteen events.
func TestEmissionsOfACallAreBounded(t *testing.T) {
	const size = 4 << 20
	p := pipeline(t, Options{}, Spec{
		Name: "large", Wasm: fixture(t, "../internal/hostile/testdata/emit_large"), Groups: []string{"g"}, Instances: 1,
		Grants: []Grant{GrantEmit}, Timeout: time.Minute, OnError: OnErrorPass,
	})
	var total, emitted int
	for i, out := range p.Process(Event{Group: "g", Payload: make([]byte, size)}, nil) {
		total += len(out.Payload)
		emitted += min(i, 1)
	}
	if emitted == 0 || total > (resultGrowth+1)*size {
		t.Errorf("%d events of %d bytes in all, for one of %d; the limit is %d", emitted, total, size, resultGrowth*size)
	}
}

// TestNamesOfAModuleInErrors: a module's names are strangers' text of any length, and errors go to logs and terminals.
func TestNamesOfAModuleInErrors(t *testing.T) {
	for name, want := range map[string]string{
		"json_get":                       "json_get",
		"grüße":                          "grüße",
		"\x1b[2J\n\u202e":                `"\x1b[2J\n\u202e"`,
		strings.Repeat("é", 600):         strings.Repeat("é", 64) + "…",
		strings.Repeat("x", 127) + "ééé": strings.Repeat("x", 127) + "…",
	} {
		if got := shownName(name); got != want {
			t.Errorf("%q is shown as %s, want %s", name, got, want)
		}
	}
}
