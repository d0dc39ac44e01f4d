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

// TestEditsOfAnotherPayload: edits work on the text that the plugin has put in place of the payload.
func TestEditsOfAnotherPayload(t *testing.T) {
	r := new(Host).Event(func(e *Event) Verdict {
		e.Payload = []byte(`{"long name":[1,2,3],"b":{"c":4},"a":1}`)
		if !e.Set("b.c", "5") || !e.Remove("a") || e.Remove("z") || !e.Rename("b", "d") {
			t.Errorf("%s", e.EditedPayload())
		}
		return e.Edited()
	}, "g", `{"a":1,"z":2}`)
	if want := `{"long name":[1,2,3],"d":{"c":5}}`; r.Payload != want {
		t.Errorf("%s instead of %s", r.Payload, want)
	}
	// A change in place is part of the copy.
	r = new(Host).Event(func(e *Event) Verdict {
		copy(e.Payload[6:], "***")
		e.Set("a", "1")
		return e.Insert(`"c":2`)
	}, "g", `{"b":"xyz"}`)
	if want := `{"b":"***","a":1,"c":2}`; r.Payload != want {
		t.Errorf("%s instead of %s", r.Payload, want)
	}
}
