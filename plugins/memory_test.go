package plugins

import (
	"context"
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
