package edgerelay

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
)

// editCase is a line of the cases that the SDKs share.
type editCase struct {
	Name, In string
	Ops      [][]string
	OK       []bool
	Out      *string
}

func editCases(t testing.TB) (cases []editCase) {
	t.Helper()
	f, err := os.Open("../testdata/edits.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var c editCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil || len(c.Ops) != len(c.OK) {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		cases = append(cases, c)
	}
	if len(cases) < 90 {
		t.Fatalf("%d cases", len(cases))
	}
	return cases
}

// apply makes an edit as the cases spell it.
func apply(e *Event, op []string) bool {
	switch op[0] {
	case "set":
		return e.Set(op[1], op[2])
	case "set_string":
		return e.SetString(op[1], op[2])
	case "remove":
		return e.Remove(op[1])
	case "rename":
		return e.Rename(op[1], op[2])
	}
	panic(op[0])
}

func TestEdits(t *testing.T) {
	for _, c := range editCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			r := new(Host).Event(func(e *Event) Verdict {
				for i, op := range c.Ops {
					if ok := apply(e, op); ok != c.OK[i] {
						t.Errorf("%q returns %v, want %v; text %s", op, ok, c.OK[i], e.EditedPayload())
					}
				}
				if string(e.Payload) != c.In {
					t.Errorf("Payload became %s", e.Payload)
				}
				return e.Edited()
			}, "g", c.In)
			want := Result{Verdict: "pass", Payload: c.In}
			if c.Out != nil {
				want = Result{Verdict: "replace", Payload: *c.Out}
			}
			if r.Verdict != want.Verdict || r.Payload != want.Payload {
				t.Errorf("%s\n%s\ngives %s %q %v, want %s\n%q", c.In, c.Ops, r.Verdict, r.Payload, r.Err, want.Verdict,
					want.Payload)
			}
		})
	}
}
