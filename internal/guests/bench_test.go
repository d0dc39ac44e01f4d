package guests

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// event returns an AWX-like job event of the given size with the status near the end.
func event(size int) []byte {
	const head = `{"group_name":"job_events","job":42,"uuid":"0c9d2a8e","stdout":"`
	const tail = `","event":"runner_on_failed","status":"failed"}`
	return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
}

// BenchmarkFilter measures a filter on a field, written with each SDK, on the real host with fuel, and the same
// filter in native Go.
func BenchmarkFilter(b *testing.B) {
	modules := []struct {
		name string
		wasm []byte
	}{
		{"go-sdk", BuildGo(b, filepath.Join("testdata", "filter-go"))},
		{"c-sdk", committed(b, "filter-c")},
		{"rust-sdk", committed(b, "filter-rs")},
		{"assemblyscript-sdk", committed(b, "filter-ts")},
	}
	for _, size := range []int{300, 1024, 4096} {
		payload := event(size)
		for _, m := range modules {
			p := start(b, newClock(), plugins.Spec{Name: "filter", Wasm: m.wasm, Groups: []string{"*"}, Instances: 1})
			b.Run(fmt.Sprintf("%d/%s", size, m.name), func(b *testing.B) {
				b.ReportAllocs()
				out := make([]plugins.Output, 0, 4)
				for b.Loop() {
					out = p.Process(plugins.Event{Group: "job_events-42", Payload: payload}, out[:0])
				}
				if len(out) != 1 {
					b.Fatalf("%d outputs", len(out))
				}
			})
		}
		b.Run(fmt.Sprintf("%d/native", size), func(b *testing.B) {
			b.ReportAllocs()
			passed := 0
			for b.Loop() {
				var v struct {
					Status string `json:"status"`
				}
				if json.Unmarshal(payload, &v) == nil && v.Status == "failed" {
					passed++
				}
			}
			if passed == 0 {
				b.Fatal("nothing passed")
			}
		})
	}
}

// BenchmarkEdit measures edits by path, one and three of them.
func BenchmarkEdit(b *testing.B) {
	modules := []struct {
		name string
		wasm []byte
	}{
		{"go-sdk", BuildGo(b, filepath.Join("testdata", "edit-go"))},
		{"rust-sdk", committed(b, "edit-rs")},
		{"c-sdk", committed(b, "edit-c")},
		{"assemblyscript-sdk", committed(b, "edit-ts")},
	}
	for _, size := range []int{300, 4096} {
		payload := event(size)
		for _, m := range modules {
			p := start(b, newClock(), plugins.Spec{Name: "edit", Wasm: m.wasm, Groups: []string{"*"}, Instances: 1})
			for _, edits := range []string{"one", "three"} {
				b.Run(fmt.Sprintf("%d/%s/%s", size, m.name, edits), func(b *testing.B) {
					b.ReportAllocs()
					out := make([]plugins.Output, 0, 4)
					for b.Loop() {
						out = p.Process(plugins.Event{Group: edits, Payload: payload}, out[:0])
					}
					if !strings.HasSuffix(string(out[0].Payload), `"status":"canceled"}`) {
						b.Fatalf("%s", out[0].Payload)
					}
				})
			}
		}
	}
}

// BenchmarkRedact measures the redactors on an event with one secret.
func BenchmarkRedact(b *testing.B) {
	for _, name := range []string{"redact", "redact-c"} {
		e := example(b, name)
		p := start(b, newClock(), e.spec(e.Wasm(b)))
		for _, size := range []int{300, 4096} {
			payload := []byte(strings.Replace(string(event(size)), "xxxxxxxxxxxxxx", "password=x xxx", 1))
			b.Run(fmt.Sprintf("%d/%s", size, name), func(b *testing.B) {
				out := make([]plugins.Output, 0, 4)
				for b.Loop() {
					out = p.Process(plugins.Event{Group: "job_events-42", Payload: payload}, out[:0])
				}
				if len(out) != 1 || !strings.Contains(string(out[0].Payload), "password=********") {
					b.Fatalf("%s", out[0].Payload)
				}
			})
		}
	}
}
