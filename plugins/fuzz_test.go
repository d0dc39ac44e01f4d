package plugins

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzResult lets a guest answer every hook with arbitrary bits.
func FuzzResult(f *testing.F) {
	for _, v := range []uint64{
		0, 1, 2, 3, 0x100, 0x13f, 0x140, 1 << 32, 0x10<<32 | 8, 0xfffffff0<<32 | 16, 0x10<<32 | 0xffffffff,
		0xffff<<32 | 1, 0x10000 << 32, ^uint64(0),
	} {
		f.Add(v)
	}
	p := pipeline(f, Options{}, Spec{
		Name:        "result",
		Wasm:        fixture(f, "result"),
		Groups:      []string{"*"},
		MaxFailures: 1 << 20,
		Instances:   1,
		MaxResult:   4096,
		OnError:     OnErrorPass,
		Timeout:     10 * time.Second, // a fuzzing process may wait for the processor
	})
	calls := 0
	f.Fuzz(func(t *testing.T, v uint64) {
		calls++
		group := strconv.Itoa(calls) // a group of its own: failures of many calls open a group's breaker
		payload := binary.LittleEndian.AppendUint64(nil, v)
		out := p.Process(Event{Group: group, Payload: payload}, nil)
		drops := v == resultDrop
		if len(out) != 1 && !drops || drops && len(out) != 0 {
			t.Fatalf("%#x gives %d outputs", v, len(out))
		}
		for _, o := range out {
			if string(o.Payload) != string(payload) && (!utf8.Valid(o.Payload) || len(o.Payload) > 4096) {
				t.Fatalf("%#x gives a payload that must be rejected: %q", v, o.Payload)
			}
		}
		p.renderNow(1, Event{Group: group, Payload: payload})
		d, err := p.Subscribe(context.Background(), strconv.AppendUint(nil, v, 10), group)
		known := v <= resultDrop || v >= resultClass && v < resultClass+64
		if d.Allow && err != nil || d.Class > 63 || known && err != nil || known && d.Allow == (v == resultDrop) ||
			v>>32 == 0 && !known && err == nil {
			t.Fatalf("%#x: %+v %v", v, d, err)
		}
	})
}

// FuzzHostFunctions lets a guest call every host function with arbitrary arguments: pointers, lengths, masks, times.
func FuzzHostFunctions(f *testing.F) {
	seed := func(n byte, args ...uint64) {
		b := []byte{n}
		for _, a := range args {
			b = binary.LittleEndian.AppendUint64(b, a)
		}
		f.Add(b)
	}
	const far, minus = 0xfffffff0, ^uint64(0)
	for n := range byte(24) {
		seed(n, 0, 0, 0, 0, 0)
		seed(n, 64, 4, 64, 4, 16)
		seed(n, 64, 4, 128, 0, 16)
		seed(n, far, far, far, far, far)
		seed(n, minus, minus, minus, minus, minus)
		seed(n, 1, 0, 1024, 1, 1<<20)
		seed(n, 2, 4096, 1, 4096, 4096)
	}
	spec := Spec{
		Name: "caller", Wasm: fixture(f, "caller"), Groups: []string{"*"}, Grants: Grants,
		MaxFailures: 1 << 20, Instances: 1, KV: 4096, OnError: OnErrorPass,
	}
	p := pipeline(f, Options{}, spec)
	f.Fuzz(func(t *testing.T, payload []byte) {
		out := p.Process(Event{Group: "g", Payload: payload}, nil)
		const audience = 4 // may leave no class
		if len(out) > 1+maxEmits || len(out) == 0 && (len(payload) == 0 || payload[0] != audience) {
			t.Fatalf("%d outputs", len(out))
		}
		for _, o := range out[min(1, len(out)):] {
			if !utf8.Valid(o.Payload) || !validGroupName([]byte(o.Group)) {
				t.Fatalf("an event that must be rejected: %q %q", o.Group, o.Payload)
			}
		}
		if h := p.Health()[0]; h.KV > 4096 || len(h.Metrics) > maxMetrics ||
			strings.Contains(h.LastError, "runtime error") {
			t.Fatalf("%+v", h)
		}
	})
}

// tryModule loads bytes as a plugin and, if the bytes load, gives the plugin events of every kind. For any bytes, the
// host stands.
func tryModule(t *testing.T, wasm []byte) (loaded bool) {
	t.Helper()
	if len(wasm) == 0 {
		return false
	}
	spec := Spec{
		Name:      "fuzz",
		Wasm:      wasm,
		Groups:    []string{"*"},
		Grants:    Grants,
		Instances: 1,
		Fuel:      10_000,
		InitFuel:  100_000,
		Memory:    4 << 20,
		MaxResult: 1 << 20,
	}
	p, err := New(Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Apply(context.Background(), []Spec{spec}); err != nil {
		if strings.Contains(err.Error(), "runtime error") {
			t.Fatalf("a module panics the host: %v", err)
		}
		return false
	}
	for _, event := range [][]byte{
		[]byte("{}"), do("split"), do("kv_set", "with", "v"), do("get", "path", "do"), do("log"),
	} {
		for _, o := range p.Process(Event{Group: "g1", Payload: event}, nil) {
			if !utf8.Valid(o.Payload) || len(o.Payload) > 1<<20 {
				t.Fatalf("an output that must be rejected: %.100q", o.Payload)
			}
		}
		p.renderNow(3, Event{Group: "g1", Payload: event})
		_, _ = p.Subscribe(context.Background(), event, "g1")
	}
	if h := p.Health()[0]; strings.Contains(h.LastError, "runtime error") {
		t.Fatalf("a module panics a host function: %s", h.LastError)
	}
	return true
}

// FuzzModule loads arbitrary bytes, beginning with the fixtures.
func FuzzModule(f *testing.F) {
	for _, name := range []string{"pass", "actor", "filter", "caller", "result", "multiply"} {
		f.Add(fixture(f, name))
	}
	f.Fuzz(func(t *testing.T, wasm []byte) { tryModule(t, wasm) })
}

// TestMutatedGuests changes bytes of real plugins, the same in every run.
func TestMutatedGuests(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	loaded := 0
	for _, name := range []string{"pass", "actor", "filter", "multiply"} {
		wasm := fixture(t, name)
		for i := range 500 {
			m := append([]byte(nil), wasm...)
			if at := 8 + rnd.IntN(len(m)-8); i%2 == 0 {
				m[at] = byte(rnd.Uint32())
			} else {
				m[at] ^= 1 << rnd.IntN(7)
			}
			if tryModule(t, m) {
				loaded++
			}
		}
	}
	if loaded < 100 {
		t.Errorf("only %d mutated modules loaded: the test covers too little", loaded)
	}
	t.Logf("%d of 2000 loaded", loaded)
}
