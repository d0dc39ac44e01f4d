package state

import (
	"errors"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// TestRejectedAdditionsAreNoFaultOfTheValue: Redis rejects writes for a reason of its own, which says nothing about the
// form of the value.
func TestRejectedAdditionsAreNoFaultOfTheValue(t *testing.T) {
	t.Run("memory is full", func(t *testing.T) {
		r := peers.StartRedis(t)
		s := openRedis(t, r.URL, Limits{})
		want(t, s, &Request{Op: Add, Key: "n", Delta: 1}, OK, "1")
		r.Do("CONFIG", "SET", "maxmemory", "1")
		want(t, s, &Request{Op: Add, Key: "n", Delta: 1}, Unavailable, "")
		r.Do("CONFIG", "SET", "maxmemory", "0")
		testkit.Eventually(t, "the sum", func() error {
			if res := call(t, s, &Request{Op: Add, Key: "n", Delta: 1}); res.Status != OK || string(res.Body) != "2" {
				return errors.New(s.Trouble())
			}
			return nil
		})
	})
	t.Run("host has become a replica", func(t *testing.T) {
		r := peers.StartRedis(t)
		s := openRedis(t, r.URL, Limits{Timeout: 10 * time.Second})
		want(t, s, &Request{Op: Add, Key: "n", Delta: 1}, OK, "1")
		r.Do("REPLICAOF", "127.0.0.1", "1")
		answered := make(chan Response, 1)
		s.Start(&Request{Plugin: "game", Op: Add, Key: "n", Delta: 1}, func(res Response) { answered <- res })
		testkit.Eventually(t, "trouble", func() error {
			if s.Trouble() == "" && len(answered) == 0 {
				return errors.New("none")
			}
			return nil
		})
		r.Do("REPLICAOF", "NO", "ONE")
		if res := <-answered; res.Status != OK || string(res.Body) != "2" {
			t.Errorf("got %d %q, want the sum 2 of a second attempt", res.Status, res.Body)
		}
	})
}
