package hub

import (
	"math/rand/v2"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
)

// TestAudienceCounts: after any sequence of changes, the reach of each job and the present classes are those of the
// subscriptions.
func TestAudienceCounts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	some := func() relay.Classification {
		return relay.Classification{Class: uint8(r.IntN(3)), Generation: uint64(r.IntN(3))}
	}
	s := &shard{audiences: map[string]*audience{}}
	for step := range 20_000 {
		a, n := s.audiences["g"], r.IntN(10)
		switch {
		case a == nil || n < 4 && len(a.subs) < 6:
			c := some()
			s.subscribe(&Session{}, "g", &relay.Subscription{Class: c.Class, Generation: c.Generation})
			a = s.audiences["g"]
		case n < 7:
			s.reclassify(a.subs[r.IntN(len(a.subs))].subscription, some())
		default:
			s.unsubscribe(a.subs[r.IntN(len(a.subs))].subscription)
		}
		var present uint64
		counts := map[relay.Classification]int{}
		for i, sub := range a.subs {
			if int(sub.at) != i {
				t.Fatalf("step %d: subscription %d is at %d", step, i, sub.at)
			}
			present |= 1 << sub.class
			counts[sub.classification()]++
		}
		if got := a.present.Load(); got != present {
			t.Fatalf("step %d: classes %b are present, want %b", step, got, present)
		}
		for class := range uint8(3) {
			for generation := range uint64(3) {
				c := relay.Classification{Class: class, Generation: generation}
				if got := a.reach(&job{classes: 1 << class, generation: generation}); got != counts[c] {
					t.Fatalf("step %d: a job for %v reaches %d, want %d", step, c, got, counts[c])
				}
				if n := len(a.subs); counts[c] == n && n > 0 && a.others != nil {
					t.Fatalf("step %d: all subscriptions are %v, and the map is kept", step, c)
				}
			}
		}
		if got := a.reach(&job{classes: allClasses}); got != len(a.subs) {
			t.Fatalf("step %d: a job for all reaches %d, want %d", step, got, len(a.subs))
		}
	}
}
