package hub_test

import (
	"context"
	"slices"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

func TestDuplicateGroupsAreSubscribedOnce(t *testing.T) {
	h, emitter := newHub(t)
	session, s := open(h)
	c, err := session.Subscribe(context.Background(), relay.Groups("a", "b", "a"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b"}; !slices.Equal(c.Current, want) || !slices.Equal(c.Joined, want) {
		t.Errorf("current %q, joined %q, want %q for both", c.Current, c.Joined, want)
	}
	publish(t, emitter, "a", "1")
	publish(t, emitter, "b", "2")
	testkit.Eventually(t, "the last event", func() bool { return slices.Contains(s.got(), "2") })
	if got := s.got(); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("the client got %q, want each event once", got)
	}
}

func TestClassAbove63IsRejected(t *testing.T) {
	h, _ := newHub(t)
	session, _ := open(h)
	if _, err := session.Subscribe(context.Background(), []relay.Subscription{{Group: "a", Class: 64}}); err == nil {
		t.Error("a subscription of class 64 is accepted")
	}
	if _, err := h.Tail(context.Background(), "a", hub.TailOptions{Class: 64}); err == nil {
		t.Error("a tail of class 64 is accepted")
	}
	h.SetInterceptor(classifier(64))
	if c, err := h.Classify(context.Background(), relay.Identity{}, "a"); err == nil {
		t.Errorf("an interceptor's class 64 became %v", c)
	}
}

// classifier is an interceptor that puts all subscriptions into the same class.
type classifier uint8

func (classifier) Intercept(events []relay.Event) []relay.Event { return events }

func (c classifier) Classify(context.Context, relay.Identity, string) (relay.Classification, error) {
	return relay.Classification{Class: uint8(c)}, nil
}
