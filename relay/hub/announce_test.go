package hub_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/edgerelay/edgerelay/relay"
)

// slowPeers is a backplane whose peers confirm groups when told to.
type slowPeers struct {
	interests
	confirmed chan struct{}
}

func (p *slowPeers) Interest(joined, left []string) func(context.Context) {
	p.interests.Interest(joined, left)
	if len(joined) == 0 {
		return nil
	}
	return func(ctx context.Context) {
		select {
		case <-p.confirmed:
		case <-ctx.Done():
		}
	}
}

// A client waits for the peers although the group's first client, which has asked them, does not wait any more.
func TestSecondClientWaitsForPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, _, _ := markingHub(t)
		defer closeHub(t, h)
		peers := &slowPeers{interests{groups: map[string]bool{}}, make(chan struct{})}
		h.SetBackplane(peers)
		first, _ := open(h)
		ctx, leave := context.WithCancel(t.Context())
		leave()
		if _, err := first.Subscribe(ctx, relay.Groups("g")); !errors.Is(err, context.Canceled) {
			t.Errorf("the first client's subscription: %v", err)
		}
		synctest.Wait()
		second, _ := open(h)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := second.Subscribe(t.Context(), relay.Groups("g")); err != nil {
				t.Errorf("the second client's subscription: %v", err)
			}
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Error("the second client does not wait for the peers")
		default:
		}
		close(peers.confirmed)
		<-done
	})
}
