package backplane_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Two nodes dial each other after one of them was killed. Reading its history for the other one takes longer than the
// time after which one of the two links is closed, or sending the page does: the other node is told of no loss.
func TestALinkStaysWhileThePeerIsRefilled(t *testing.T) {
	t.Run("slow history", func(t *testing.T) { restartAndRefill(t, 30, 5*time.Second, 20, 10) })
	t.Run("large page", func(t *testing.T) { restartAndRefill(t, 10, 0, 100, 30_000) })
}

func restartAndRefill(t *testing.T, times int, slow time.Duration, count, size int) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, 1, 8<<20)
		a, b := m.nodes[0], m.nodes[1]
		b.history.slow = slow
		for range times {
			b.emit(20, 10)
			m.settle(time.Second)
			b.emit(count, size)
			b.stop(true)
			b.start()
			m.settle(30 * time.Second)
		}
		a.told.mu.Lock()
		losses := a.told.times[relay.LossPeerLink]
		a.told.mu.Unlock()
		m.finish()
		if losses != 0 {
			t.Errorf("%d losses were told, want none", losses)
			for _, line := range m.trace {
				t.Log(line)
			}
		}
		a.once()
	})
}
