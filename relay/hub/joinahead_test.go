package hub_test

import (
	"context"
	"errors"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// JoinAhead returns once the layer has joined; the membership outlives the release only with a subscription.
func TestJoinAhead(t *testing.T) {
	h := hub.New(quiet)
	t.Cleanup(func() { _ = h.Close(context.Background()) })
	h.SetAuthorizer(relay.Open{}, 0)
	b := newGatedBroker()
	if err := h.SetBroker(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	member := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.joined["g"]
	}
	impatient, giveUp := context.WithCancel(t.Context())
	giveUp()
	release, err := h.JoinAhead(impatient, []string{"g"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("while the layer does not answer: %v, want the context's error", err)
	}
	release()

	close(b.gate)
	if release, err = h.JoinAhead(t.Context(), []string{"g"}); err != nil || !member() {
		t.Fatalf("JoinAhead: %v, a member %v", err, member())
	}
	s, _ := open(h)
	if _, err := s.Subscribe(t.Context(), relay.Groups("g")); err != nil {
		t.Fatal(err)
	}
	release()
	if !member() {
		t.Error("the release has taken the client's membership")
	}
	s.Close()
	if member() {
		t.Error("a membership has neither a client nor a JoinAhead")
	}
	if release, err = h.JoinAhead(t.Context(), []string{"g"}); err != nil || !member() {
		t.Fatalf("JoinAhead: %v, a member %v", err, member())
	}
	if release(); member() {
		t.Error("the release without a client leaves a membership")
	}
}
