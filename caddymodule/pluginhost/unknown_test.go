package pluginhost

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// A node of this version changes the record of a newer one, and keeps what it does not know.
func TestRecordsKeepUnknownMembers(t *testing.T) {
	r, err := parseRecord([]byte(`{
		"pause": {"until": 5}, "hash": "a", "at": "2026-01-01T00:00:00Z",
		"history": [{"version": 1, "id": "1", "hash": "a", "origin": "deploy", "regions": ["eu"]}],
		"canary": {"candidate": {"version": 0, "id": "c", "hash": "b", "origin": "deploy", "arch": "x"}, "share": 0.5,
			"since": "2026-01-01T00:00:00Z", "max_errors": 0.1, "phase": "running", "steps": [1, 2]}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.changeCanary("c", canaryChange{event: canaryResized, share: 0.7}); err != nil {
		t.Fatal(err)
	}
	r.add(&entry{ID: "2", Hash: "d", Origin: OriginDeploy, At: time.Unix(1, 0)})
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Pause   any
		Hash    string
		History []map[string]any
		Canary  map[string]any
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	candidate, _ := got.Canary["candidate"].(map[string]any)
	for name, of := range map[string][2]any{
		"of the record":    {got.Pause, map[string]any{"until": 5.0}},
		"of a version":     {got.History[0]["regions"], []any{"eu"}},
		"of the canary":    {got.Canary["steps"], []any{1.0, 2.0}},
		"of the candidate": {candidate["arch"], "x"},
		"that is known":    {got.Canary["share"], 0.7},
		"that has changed": {got.Hash, "d"},
	} {
		if !reflect.DeepEqual(of[0], of[1]) {
			t.Errorf("member %s: %v, want %v in %s", name, of[0], of[1], b)
		}
	}
	if again, err := parseRecord(b); err != nil || len(again.History) != 2 {
		t.Errorf("read again: %+v, %v", again, err)
	}
}
