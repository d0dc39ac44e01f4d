package state

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// TestAlarmsAfterAJumpOfTheClock moves the times of alarms, which Redis's clock measures, as a jump of that clock
// would.
func TestAlarmsAfterAJumpOfTheClock(t *testing.T) {
	r := peers.StartRedis(t)
	jump := func(name string, by time.Duration) { // of the clock, ahead
		r.Do("ZINCRBY", "edgerelay:state:asgi:game:due", -by.Milliseconds(), name)
	}
	a, b := openRedis(t, r.URL, Limits{}), openRedis(t, r.URL, Limits{})
	began, again := make(chan string, 10), make(chan string, 10)
	finish := make(chan struct{})
	scheduleFunc(t, a, time.Hour, func(_ context.Context, _, name string, _ []byte) error {
		began <- name
		<-finish
		return nil
	})
	wait := func(from chan string, want string) {
		t.Helper()
		select {
		case name := <-from:
			if name != want {
				t.Errorf("alarm %s, want %s", name, want)
			}
		case <-time.After(testkit.Patience):
			t.Fatalf("the alarm %s did not fire", want)
		}
	}
	// Ahead: the alarm fires early.
	want(t, a, &Request{Op: AlarmSet, Key: "ahead", At: time.Now().Add(time.Hour)}, OK, "")
	jump("ahead", 2*time.Hour)
	wait(began, "ahead")
	// Ahead, during the call: the lease seems to have ended, so another node fires the alarm again.
	jump("ahead", 2*time.Hour)
	scheduleFunc(t, b, time.Hour, func(_ context.Context, _, name string, _ []byte) error {
		again <- name
		return nil
	})
	wait(again, "ahead")
	close(finish) // the end of the former call concerns no other claim
	// Back: the alarm is late, and not lost.
	want(t, a, &Request{Op: AlarmSet, Key: "back", At: time.Now().Add(time.Minute)}, OK, "")
	jump("back", -time.Hour)
	jump("back", 2*time.Hour)
	select {
	case name := <-began:
		again <- name
	case name := <-again:
		again <- name
	case <-time.After(testkit.Patience):
		t.Fatal("an alarm was lost")
	}
	wait(again, "back")
	testkit.Eventually(t, "all alarms removed", func() error {
		u, err := a.Usage("game")
		if err != nil || u.Alarms != 0 {
			return fmt.Errorf("%+v %v", u, err)
		}
		return nil
	})
	if c, d := a.Counters(), b.Counters(); c.Dropped+d.Dropped > 0 || c.Failed+d.Failed > 0 || d.Moved != 1 {
		t.Errorf("counters: %+v, %+v", c, d)
	}
}
