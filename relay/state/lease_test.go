package state

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAlarmInProgressKeepsItsLease: the pace of the renewals is that of the lease with which the alarm was claimed, so
// a shorter lease of a new configuration must not end the claim in between.
func TestAlarmInProgressKeepsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := Open(nil, Limits{Lease: 30 * time.Second}, slog.New(slog.DiscardHandler))
		var calls atomic.Int32
		a := scheduleFunc(t, s, 0, func(context.Context, string, string, []byte) error {
			calls.Add(1)
			time.Sleep(time.Second) // until the renewals have their pace
			s.SetLimits(Limits{Lease: MinLease})
			time.Sleep(25 * time.Second)
			return nil
		})
		want(t, s, &Request{Op: AlarmSet, Key: "a", At: time.Now()}, OK, "")
		time.Sleep(time.Minute)
		a.Close(t.Context())
		s.Close()
		if n := calls.Load(); n != 1 {
			t.Errorf("the alarm fired %d times, want 1", n)
		}
	})
}
