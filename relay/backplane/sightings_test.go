package backplane

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

type patientList struct{ Static }

func (patientList) Patience() int  { return 3 }
func (patientList) Source() string { return "list" }

// answers applies answers ten seconds apart, and returns the URLs that are kept after each.
type answers struct {
	s      *sightings
	now    time.Time
	linked map[string]bool
}

func newAnswers() *answers {
	return &answers{newSightings(patientList{}), time.Now(), map[string]bool{}}
}

func (a *answers) next(targets ...Target) (kept []string) {
	a.now = a.now.Add(10 * time.Second)
	a.s.record(targets, func(url string) bool { return a.linked[url] }, a.now)
	for _, t := range a.s.targets() {
		kept = append(kept, t.URL)
	}
	slices.Sort(kept)
	return kept
}

func (a *answers) expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
}

func TestSightings(t *testing.T) {
	one, two := Target{URL: "http://one"}, Target{URL: "http://two"}
	t.Run("a node without a link is left after several answers", func(t *testing.T) {
		a := newAnswers()
		a.expect(t, a.next(one, two), "http://one", "http://two")
		a.expect(t, a.next(one), "http://one", "http://two")
		a.expect(t, a.next(one), "http://one", "http://two")
		a.expect(t, a.next(one), "http://one")
	})
	t.Run("an answer with the node begins the count again", func(t *testing.T) {
		a := newAnswers()
		a.next(one, two)
		for range 10 {
			a.next(one)
			a.next(one)
			a.expect(t, a.next(one, two), "http://one", "http://two")
		}
	})
	t.Run("a linked node stays, and for several answers after its link", func(t *testing.T) {
		a := newAnswers()
		a.next(one, two)
		a.linked["http://two"] = true
		for range 100 {
			a.expect(t, a.next(one), "http://one", "http://two")
		}
		a.linked["http://two"] = false
		a.expect(t, a.next(one), "http://one", "http://two")
		a.expect(t, a.next(one), "http://one", "http://two")
		a.expect(t, a.next(one), "http://one")
	})
	t.Run("a linked node that no answer names is left after half an hour", func(t *testing.T) {
		a := newAnswers()
		a.next(one, two)
		a.linked["http://two"] = true
		began := a.now
		for slices.Contains(a.next(one), "http://two") {
			if a.now.Sub(began) > time.Hour {
				t.Fatal("the node stays for ever")
			}
		}
		if after := a.now.Sub(began); after <= unseenWait || after > unseenWait+10*time.Second {
			t.Errorf("left after %v", after)
		}
	})
	t.Run("a node that withdraws itself is left with its link", func(t *testing.T) {
		a := newAnswers()
		gone := two
		gone.Gone = true
		a.next(one, two)
		a.linked["http://two"] = true
		a.expect(t, a.next(one, gone), "http://one", "http://two")
		a.expect(t, a.next(one), "http://one", "http://two")
		a.linked["http://two"] = false
		a.expect(t, a.next(one), "http://one")
		a.expect(t, a.next(one, gone), "http://one")
		a.next(one, two)
		a.expect(t, a.next(one, gone), "http://one")
	})
	t.Run("a node that announces itself under one of two names is not gone", func(t *testing.T) {
		a := newAnswers()
		gone := one
		gone.Gone = true
		a.next(one)
		a.expect(t, a.next(gone, Target{URL: "http://ONE/"}), "http://one")
		a.expect(t, a.next(), "http://one")
	})
}

// A name server returns ever new addresses: what is kept is bounded, and linked nodes stay.
func TestSightingsAreBounded(t *testing.T) {
	a := newAnswers()
	a.linked["http://linked"] = true
	a.next(Target{URL: "http://linked"})
	for i := range 50 {
		var many []Target
		for j := range 400 {
			many = append(many, Target{URL: fmt.Sprintf("http://%d-%d", i, j)})
		}
		kept := a.next(many...)
		if len(kept) > maxSightings {
			t.Fatalf("%d nodes are kept", len(kept))
		}
		if !slices.Contains(kept, "http://linked") || !slices.Contains(kept, fmt.Sprintf("http://%d-399", i)) {
			t.Fatalf("answer %d: the linked node and the newest must be kept", i)
		}
	}
	var all []Target
	for j := range 3 * maxSightings {
		all = append(all, Target{URL: fmt.Sprintf("http://all-%d", j)})
	}
	if kept := a.next(all...); len(kept) != maxSightings || !slices.Contains(kept, "http://linked") {
		t.Errorf("%d nodes are kept of one large answer", len(kept))
	}
}
