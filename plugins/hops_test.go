package plugins

import (
	"math"
	"testing"
)

// TestHopsDoNotOverflow: an event whose hops cannot be read has the greatest number of hops, which counts as too many.
func TestHopsDoNotOverflow(t *testing.T) {
	p := pipeline(t, Options{}, functionSpec(t))
	var published []int
	p.SetPublisher(func(_ string, a *Action) { published = append(published, a.Hops) })
	p.Process(Event{Group: "g1", Payload: []byte(`{"do":"publish","group":"room_1","text":"x"}`), Hops: math.MaxInt}, nil)
	if len(published) > 0 {
		t.Errorf("published with hops %d", published)
	}
}
