package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// The sentinels name a new master while a backlog is read. The former master dies before the rest has been read, but
// the
// new master has the rest, too.
func TestFailoverDuringABacklog(t *testing.T) {
	t.Parallel()
	old, young := pair(t)
	o, g := newOracle(t, old, 1), newGates()
	_, c := startCounter(t, watchedBy(o), g.before)
	g.backlog(t, old)
	promote(old, young)
	o.say(young, 2)
	o.heard(t)
	old.Kill()
	close(g.full)
	c.once(t, 1500)
}

// A sentinel that is behind is not believed while the one that knows is slow, and the channel key has one reader.
func TestOutdatedSentinel(t *testing.T) {
	t.Parallel()
	old, young := peers.StartRedis(t), peers.StartRedis(t)
	behind, knows := newOracle(t, old, 1), newOracle(t, young, 7)
	_, c := startCounter(t, watchedBy(behind, knows), nil)
	readers := func(r *peers.Redis) (n int) {
		for line := range strings.Lines(r.Do("CLIENT", "LIST").(string)) {
			_, flags, _ := strings.Cut(line, " flags=")
			if flags, _, _ = strings.Cut(flags, " "); strings.Contains(flags, "B") { // broadcast tracking
				n++
			}
		}
		return n
	}
	release := knows.hold()
	behind.heard(t)
	release()
	knows.heard(t)
	if a, b := readers(old), readers(young); a != 0 || b != 1 {
		t.Errorf("%d readers at the old master, %d at the new one", a, b)
	}
	emitter(t, young)(0, 1000)
	c.once(t, 1000)

	// When all of them begin again, their word counts.
	behind.say(old, 2)
	knows.say(old, 2)
	testkit.Eventually(t, "the other master", func() bool { return readers(old) == 1 })
	testkit.Eventually(t, "membership there", func() bool { return old.Do("ZCARD", "asgi:group:g") == int64(1) })
	emitter(t, old)(1000, 1001)
	c.once(t, 1001)
}

// A master's machine goes without a word, and another is named: that is not waited out.
func TestHangingMaster(t *testing.T) {
	t.Parallel()
	old, young := peers.StartRedis(t), peers.StartRedis(t)
	o := newOracle(t, old, 1)
	b, c := startCounter(t, watchedBy(o), nil)
	stop(t, old)
	testkit.Eventually(t, "a question without an answer", func() bool { return !b.Health().OK })
	o.say(young, 2)
	began := time.Now()
	testkit.Eventually(t, "membership at the new master", func() bool { return young.Do("ZCARD", "asgi:group:g") == int64(1) })
	emitter(t, young)(0, 1)
	c.once(t, 1)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}
