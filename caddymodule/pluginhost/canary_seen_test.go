package pluginhost

import (
	"context"
	"errors"
	"testing"

	"github.com/edgerelay/edgerelay/plugins"
)

// A change of a canary that its author has not seen is not made: above all, to take back a canary that has ended must
// not roll the stable module back.
func TestChangesOfAnotherCanary(t *testing.T) {
	ctx := context.Background()
	first, second, candidate := module(t, "one1"), module(t, "two2"), actorModule(t)
	s := newCanarySites(t, 1, first)[0]
	for _, wasm := range [][]byte{second} {
		if err := s.Deploy(ctx, "p", wasm, Change{}); err != nil {
			t.Fatal(err)
		}
	}
	runs := func(step string, wasm []byte, canary bool) {
		t.Helper()
		if got := s.status(); got.Hash != plugins.Hash(wasm) || (got.Canary != nil && got.Canary.Phase == CanaryRunning) != canary {
			t.Errorf("%s: %.12s runs, canary %+v", step, got.Hash, got.Canary)
		}
	}
	seen := Change{Expect: []string{plugins.Hash(second)}, Candidate: plugins.Hash(candidate)}
	if err := s.Rollback(ctx, "p", seen); !errors.Is(err, ErrOtherCanary) {
		t.Errorf("rollback of a canary that has ended: %v", err)
	}
	runs("the canary has ended", second, false)

	settings := CanarySettings{Share: 0.1, CanaryLimits: lenient}
	if err := s.DeployCanary(ctx, "p", candidate, Change{}, settings); err != nil {
		t.Fatal(err)
	}
	other := Change{Candidate: plugins.Hash(first)}
	for name, err := range map[string]error{
		"promote":  s.Promote(ctx, "p", other),
		"resize":   s.ResizeCanary(ctx, "p", 1, other),
		"rollback": s.Rollback(ctx, "p", other),
		"unseen":   s.Rollback(ctx, "p", Change{Candidate: NoCandidate}),
		"undeploy": s.Undeploy(ctx, "p", Change{Candidate: NoCandidate}),
	} {
		if !errors.Is(err, ErrOtherCanary) {
			t.Errorf("%s of another canary: %v", name, err)
		}
	}
	runs("changes of another canary", second, true)
	if err := s.Rollback(ctx, "p", seen); err != nil {
		t.Error(err)
	}
	runs("taken back", second, false)
	if err := s.Rollback(ctx, "p", Change{Candidate: NoCandidate}); err != nil {
		t.Error(err)
	}
}
