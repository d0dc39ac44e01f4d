package layertest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
)

// TestClaims tests a [relay.ClaimKeeper]. The two brokers are nodes of the same layer.
func TestClaims(t *testing.T, a, b relay.ClaimKeeper) {
	swap := func(k relay.ClaimKeeper, swaps ...relay.ClaimSwap) []string {
		t.Helper()
		texts, err := k.SwapClaims(t.Context(), swaps)
		if err != nil {
			t.Fatal(err)
		}
		return texts
	}
	one := func(k relay.ClaimKeeper, key, from, to string) string {
		t.Helper()
		return swap(k, relay.ClaimSwap{Key: key, From: from, To: to, Lifetime: time.Minute})[0]
	}
	for _, step := range []struct {
		keeper         relay.ClaimKeeper
		from, to, want string
	}{
		{a, "", "a", "a"},
		{a, "", "a", "a"}, // sent twice
		{b, "", "b", "a"},
		{b, "x", "b", "a"},
		{b, "a", "b", "b"},
		{a, "a", "", "b"},
		{a, "b", "", ""},
		{b, "", "c", "c"},
	} {
		if got := one(step.keeper, "steps", step.from, step.to); got != step.want {
			t.Errorf("from %q to %q: got %q, want %q", step.from, step.to, got, step.want)
		}
	}
	got := swap(a,
		relay.ClaimSwap{Key: "steps", To: "d", Lifetime: time.Minute},
		relay.ClaimSwap{Key: "other", To: "e", Lifetime: time.Minute},
		relay.ClaimSwap{Key: "other", From: "e", To: "f", Lifetime: time.Minute})
	if want := []string{"c", "e", "f"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("several changes: got %q, want %q", got, want)
	}

	var winners atomic.Int32
	var racers sync.WaitGroup
	for i := range 16 {
		racers.Go(func() {
			name := fmt.Sprint(i)
			if one([]relay.ClaimKeeper{a, b}[i%2], "race", "", name) == name {
				winners.Add(1)
			}
		})
	}
	racers.Wait()
	if n := winners.Load(); n != 1 {
		t.Errorf("%d of 16 took a claim, want 1", n)
	}

	swap(a, relay.ClaimSwap{Key: "short", To: "a", Lifetime: 20 * time.Millisecond})
	testkit.Eventually(t, "the claim ends", func() bool { return one(b, "short", "", "b") == "b" })
}

// TestClaimsApart tests that two layers do not share claims.
func TestClaimsApart(t *testing.T, a, b relay.ClaimKeeper) {
	for i, k := range []relay.ClaimKeeper{a, b} {
		name := fmt.Sprint(i)
		texts, err := k.SwapClaims(t.Context(), []relay.ClaimSwap{{Key: "apart", To: name, Lifetime: time.Minute}})
		if err != nil || texts[0] != name {
			t.Errorf("layer %d: got %q, %v", i, texts, err)
		}
	}
}
