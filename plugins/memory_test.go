package plugins

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
)

// The memory of a plugin is that of all instances it holds: those in use, and the spare one. The memory of failed
// instances and of replaced modules is given back.
func TestMemoryOfInstances(t *testing.T) {
	spec := actor(t)
	spec.Instances = 2
	p := pipeline(t, Options{}, spec)
	held := func() uint64 { return p.Health()[0].Memory }
	p.Process(Event{Group: "g1", Payload: do("pass")}, nil)
	slots := p.plugins[spec.Name].deployment.Load().live.slots
	one := uint64(slots[0].instance.mem.Size())
	all := func() bool { return held() == 3*one }
	eventually(t, "the spare instance to be counted", all)
	for range 3 {
		p.Process(Event{Group: "g1", Payload: do("trap")}, nil)
	}
	p.Process(Event{Group: "g1", Payload: do("pass")}, nil) // starts the last one again
	eventually(t, "the memory of failed instances to be given back", all)
	if err := p.Deploy(context.Background(), spec.Name, fixture(t, "pass")); err != nil {
		t.Fatal(err)
	}
	if err := p.Deploy(context.Background(), spec.Name, fixture(t, "actor")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the memory of replaced modules to be given back", all)
}

// An instance that fails before it is complete holds no memory: here, its data lies beyond the end of the memory.
func TestMemoryOfFailedStart(t *testing.T) {
	p := pipeline(t, Options{}, Spec{Name: "p", Wasm: fixture(t, "pass"), Groups: []string{"*"}, Instances: 1})
	pl := (*p.order.Load())[0]
	env, spec := pl.env, *pl.spec.Load()
	eventually(t, "an instance and a spare one", func() bool { return env.memory.Load() == 2<<16 })
	data := []byte{11, 9, 1, 0, 0x41, 0xc0, 0x9a, 0x0c, 0x0b, 1, 'x'} // a section with "x" at 200,000
	spec.Wasm = append(fixture(t, "pass"), data...)
	if _, err := p.load(context.Background(), spec, env); err == nil || !strings.Contains(err.Error(), "out of bounds") {
		t.Fatalf("the start ended with %v", err)
	}
	if after := env.memory.Load(); after != 2<<16 {
		t.Errorf("%d bytes are counted, want %d", after, 2<<16)
	}
}

// The memory of a plugin with a canary is also that of the candidate, and of its shadow.
func TestMemoryOfCanary(t *testing.T) {
	spec := Spec{Name: "p", Wasm: fixture(t, "pass"), Groups: []string{"*"}, Instances: 1}
	p := pipeline(t, Options{}, spec)
	instances := func(n uint64) func() bool { return func() bool { return p.Health()[0].Memory == n<<16 } }
	eventually(t, "an instance and a spare one", instances(2))
	most := 0.01
	startCanary(t, p, spec, Canary{Share: 0.1, Limits: CanaryLimits{MaxErrors: 0.01, MaxDiffer: &most}})
	eventually(t, "as many of the candidate and of its shadow", instances(6))
	if err := p.EndCanary("p", "canary"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the candidate's", instances(2))
}

// A memory that has grown counts with its capacity, and no longer once it is freed.
func TestMemoryCountsCapacity(t *testing.T) {
	var total atomic.Int64
	m := &linearMemory{maxBytes: 10 << 16, total: &total}
	for _, c := range []struct{ size, want int64 }{{1, 1}, {2, 2}, {3, 4}, {4, 4}, {5, 8}, {10, 10}} {
		if m.Reallocate(uint64(c.size<<16)) == nil || total.Load() != c.want<<16 {
			t.Errorf("%d pages count as %d bytes, want %d", c.size, total.Load(), c.want<<16)
		}
	}
	if m.Reallocate(11<<16) != nil || total.Load() != 10<<16 {
		t.Errorf("after a refused growth %d bytes are counted", total.Load())
	}
	m.Free()
	m.Free()
	if total.Load() != 0 {
		t.Errorf("%d bytes are counted after the end", total.Load())
	}
}
