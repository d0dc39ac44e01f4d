package state

import (
	"encoding/json"
	"testing"
)

func FuzzParse(f *testing.F) {
	f.Add(byte(Get), []byte(`[0, "x"]`))
	f.Add(byte(List), []byte(`[0, "x", "y"]`))
	f.Add(byte(opClaim), []byte(`[0, 5, "name", 1, "payload", 0]`))
	f.Add(byte(opUsage), []byte(`[0, 5, 1, 2]`))
	f.Fuzz(func(t *testing.T, op byte, text []byte) {
		var list []any
		if json.Unmarshal(text, &list) != nil {
			return
		}
		for i, v := range list { // as the client of Redis has it
			if n, ok := v.(float64); ok {
				list[i] = int64(n)
			}
		}
		res := parse(Op(op), list)
		if res.Status > Conflict || res.wait < 0 || res.wait > startWindow {
			t.Errorf("status %d, wait %v", res.Status, res.wait)
		}
		for _, c := range res.claims {
			if res.Status != OK {
				t.Errorf("claim %q of a response with status %d", c.name, res.Status)
			}
		}
	})
}
