package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
)

// event is an AWX-like job event of a size, its status near the end.
func event(size int) []byte {
	const head = `{"group_name":"job_events","job":42,"uuid":"0c9d2a8e","stdout":"`
	const tail = `","event":"runner_on_failed","status":"failed"}`
	return []byte(head + strings.Repeat("x", size-len(head)-len(tail)) + tail)
}

var (
	sink      int
	wantField = []byte(`"status":"failed"`)
)

// The cases of filter.wasm, by the group's first letter, and the same in Go.
var benchCases = []struct {
	name, group string
	native      func(payload []byte, out []Output) []Output
}{
	{"pass", "pass-1", func(p []byte, out []Output) []Output { return append(out, Output{Payload: p}) }},
	{"json-filter", "json-1", func(p []byte, out []Output) []Output {
		var v struct {
			Status string `json:"status"`
		}
		if json.Unmarshal(p, &v) == nil && v.Status == "failed" {
			out = append(out, Output{Payload: p})
		}
		return out
	}},
	{"scan-filter", "scan-1", func(p []byte, out []Output) []Output {
		if bytes.Contains(p, wantField) {
			out = append(out, Output{Payload: p})
		}
		return out
	}},
	{"transform", "transform-1", func(p []byte, out []Output) []Output {
		b := make([]byte, 0, len(p)+12)
		b = append(append(b, `{"seen":true,`...), p[1:]...)
		return append(out, Output{Payload: b})
	}},
}

// BenchmarkProcess measures an event through a C plugin with fuel on, and the same in native Go.
func BenchmarkProcess(b *testing.B) {
	p := pipeline(b, Options{}, Spec{Name: "filter", Wasm: fixture(b, "filter"), Groups: []string{"*"}})
	for _, c := range benchCases {
		for _, size := range []int{300, 4096} {
			payload := event(size)
			b.Run(fmt.Sprintf("%s/%d/wasm", c.name, size), func(b *testing.B) {
				b.ReportAllocs()
				out := make([]Output, 0, 4)
				for b.Loop() {
					out = p.Process(Event{Group: c.group, Payload: payload}, out[:0])
				}
				if len(out) != 1 {
					b.Fatalf("%d outputs", len(out))
				}
			})
			b.Run(fmt.Sprintf("%s/%d/native", c.name, size), func(b *testing.B) {
				b.ReportAllocs()
				out := make([]Output, 0, 4)
				for b.Loop() {
					out = c.native(payload, out[:0])
				}
				sink += len(out)
			})
		}
	}
}

// BenchmarkUnmatched measures a group without plugins beside fifty that do not match it, and in an empty pipeline.
func BenchmarkUnmatched(b *testing.B) {
	payload := event(300)
	for _, n := range []int{0, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			specs := make([]Spec, n)
			for i := range specs {
				specs[i] = Spec{
					Name:      fmt.Sprintf("p%d", i),
					Wasm:      fixture(b, "pass"),
					Groups:    []string{fmt.Sprintf("other_%d-*", i)},
					Instances: 1,
				}
			}
			p := pipeline(b, Options{}, specs...)
			out := make([]Output, 0, 4)
			b.ReportAllocs()
			for b.Loop() {
				out = p.Process(Event{Group: "job_events-42", Payload: payload}, out[:0])
			}
		})
	}
}

// BenchmarkLoad measures a deploy: rewriting, compiling, checking, starting.
func BenchmarkLoad(b *testing.B) {
	p := pipeline(b, Options{})
	spec := Spec{Name: "filter", Wasm: fixture(b, "filter"), Groups: []string{"*"}, Instances: 1}
	for b.Loop() {
		if err := p.Check(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCall measures the floor: a bare wazero call of the unmetered module with the payload copied in, no host
// around it.
func BenchmarkCall(b *testing.B) {
	ctx := context.Background()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	m, err := r.Instantiate(ctx, fixture(b, "pass"))
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{0, 300, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			payload := event(max(size, 120))[:size]
			f, mem := m.ExportedFunction(exportOnEvent), m.Memory()
			var stack [2]uint64
			for b.Loop() {
				buf, _ := mem.Read(1024, uint32(len(payload)))
				copy(buf, payload)
				if err := f.CallWithStack(ctx, stack[:]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSwap paces 20,000 events a second through a plugin, with and without a deploy every 50 ms, and reports the
// longest time that an event took. Beside the plugin's own pauses that shows what the machine was busy with: compare
// the two.
func BenchmarkSwap(b *testing.B) {
	for _, swap := range []bool{false, true} {
		b.Run(fmt.Sprintf("swap=%v", swap), func(b *testing.B) {
			p := pipeline(b, Options{}, actor(b))
			modules := [][]byte{fixture(b, "pass"), fixture(b, "actor")}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			swaps := 0
			if swap {
				wg.Go(func() {
					tick := time.NewTicker(50 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
						}
						if err := p.Deploy(context.Background(), "actor", modules[swaps%2]); err != nil {
							b.Error(err)
						}
						swaps++
					}
				})
			}
			payload := do("pass")
			out := make([]Output, 0, 4)
			var worst time.Duration
			lost := 0
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for b.Loop() { // an iteration is a millisecond of twenty events
				<-tick.C
				for i := range 20 {
					start := time.Now()
					out = p.Process(Event{Group: []string{"g1", "g2", "g3"}[i%3], Payload: payload}, out[:0])
					worst = max(worst, time.Since(start))
					lost += 1 - len(out)
				}
			}
			close(stop)
			wg.Wait()
			b.ReportMetric(float64(worst.Microseconds())/1000, "worst-ms")
			b.ReportMetric(float64(swaps), "swaps")
			b.ReportMetric(float64(lost), "lost")
		})
	}
}
