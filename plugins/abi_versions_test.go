package plugins

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

// Modules that were built for each version of the ABI run on this host: testdata/abi has one for each, which nobody
// changes. A module of a later minor version is for later hosts only.
func TestModulesOfEveryABIVersionRun(t *testing.T) {
	for _, c := range []struct {
		version, hash string
		grants        []Grant
		samples       string
	}{
		{
			"1.0", "2d57d8d8025003b692934406e68bb6faf31c111e1bdc2715019b5d241aedd126",
			[]Grant{GrantEmit},
			`{"group": "g", "payload": {"a": 1}, "verdict": "pass", "emits": [{"group": "copies", "payload": {"a": 1}}]}
{"hook": "on_subscribe", "group": "g", "user": {"id": 1}, "verdict": "deny"}
{"group": "g", "payload": {"a": 1}, "class": 0, "verdict": "pass"}
{"group": "g", "payload": {"a": 1}, "class": 1, "verdict": "drop"}`,
		},
		{
			"1.1", "eb3f7443ce1f8c245c53cd2858ddfcec3df691e57072ccc609de39c64dd16bc3",
			[]Grant{GrantEmit, GrantTick},
			`{"group": "g", "payload": {"a": 1}, "source": "peer", "verdict": "replace", "output": "peer"}
{"hook": "on_tick", "verdict": "pass", "emits": [{"group": "ticks", "payload": "tick"}]}`,
		},
		{
			"1.2", "6002e6ae266d7b63b0e426e79b3692881db738172b8fbfa4ed5e12d105aa325d",
			[]Grant{GrantEmit},
			`{"group": "g", "payload": {"a": 1}, "verdict": "drop", "emits": [{"group": "kept", "payload": {"a": 1}}]}`,
		},
		{
			"1.3", "daa3442d7a7a665454fe9bd44c9344e6362474fdf5577bcb659243ba18099efe", nil,
			`{"hook": "on_connect", "request": {"params": {}}, "verdict": "allow", "want_attachment": "seen"}
{"hook": "on_message", "text": "hello", "effects": [{"send": "hello"}]}
{"hook": "on_close", "code": 1000, "verdict": "pass"}`,
		},
	} {
		t.Run(c.version, func(t *testing.T) {
			wasm := fixture(t, "abi/v"+c.version)
			if sum := sha256.Sum256(wasm); hex.EncodeToString(sum[:]) != c.hash {
				t.Errorf("the module has changed: %x; a module for an ABI version stays as it was built", sum)
			}
			in, err := Inspect(wasm)
			if err != nil || in.ABI != c.version {
				t.Fatalf("ABI %+v, %v", in, err)
			}
			trial, err := Try(context.Background(), Options{}, Spec{Name: "old", Wasm: wasm, Grants: c.grants, Groups: []string{"*"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(trial.Close)
			samples := NewSampleReader(strings.NewReader(c.samples), "g")
			for range strings.Count(c.samples, "\n") + 1 {
				s, err := samples.Next()
				if err != nil {
					t.Fatal(err)
				}
				trace := trial.Run(&s)
				if err := s.Compare(&trace); err != nil {
					t.Errorf("line %d: %v; outputs %+v, effects %s, error %v", samples.Line(), err, trace.Outputs, trace.Effects, trace.Err)
				}
			}
		})
	}
	if ABIVersion != 1 || ABIMinor != 3 {
		t.Errorf("the ABI is %d.%d now; add a module for it to testdata/abi", ABIVersion, ABIMinor)
	}
}
