package redis_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Close does not wait for a host that stands still for longer than it may.
func TestCloseWhileTheHostHangs(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	b, _ := startCounter(t, settings(r), nil)
	r.KillClients()
	stop(t, r)
	testkit.Eventually(t, "trouble", func() bool { return !b.Health().OK })
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := b.Close(ctx); err == nil {
		t.Error("left a host that does not answer")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

// The second half of a notification comes late, when the reader has taken the link for quiet.
func TestNotificationInTwoPieces(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	var cut atomic.Bool
	var at atomic.Int64 // the connection that is cut, -1 before
	at.Store(-1)
	tired := make(chan struct{}) // it has been taken for quiet, or given up
	var once sync.Once
	proxy := testkit.StartRelay(t, r.Addr, func(conn int, b []byte, w io.Writer) {
		if n := at.Load(); n >= 0 && (int64(conn) > n || int64(conn) == n && bytes.Contains(b, []byte("EXISTS"))) {
			once.Do(func() { close(tired) })
		}
		_, _ = w.Write(b)
	}, func(conn int, b []byte, w io.Writer) {
		const head = "$10\r\ninvalidate\r\n"
		if i := bytes.Index(b, []byte(head)); i >= 0 && cut.CompareAndSwap(true, false) {
			_, _ = w.Write(b[:i+len(head)])
			at.Store(int64(conn))
			<-tired // a segment was lost, and is sent again
			b = b[i+len(head):]
		}
		_, _ = w.Write(b)
	})
	t.Cleanup(func() { once.Do(func() { close(tired) }) }) // a failed test must not block the proxy
	s := settings()
	s.URLs = []string{"redis://" + proxy.Addr + "/0"}
	_, c := startCounter(t, s, nil)
	emit := emitter(t, r)
	emit(0, 1)
	c.once(t, 1)
	cut.Store(true)
	emit(1, 2)
	testkit.Eventually(t, "a notification that is cut", func() bool { return !cut.Load() })
	for i := 2; i < 100; i++ {
		emit(i, i+1)
	}
	c.once(t, 100)
}

// A group is wiped between Redis' adding us and our hearing of it.
func TestWipedWhileJoining(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	var joining sync.Map
	added := make(chan struct{}, 1)
	wiped, told := make(chan struct{}), make(chan struct{}) // and the relay's link was told of it
	var tell sync.Once
	proxy := testkit.StartRelay(t, r.Addr, func(conn int, b []byte, w io.Writer) {
		if bytes.Contains(b, []byte("asgi:group:late")) && bytes.Contains(bytes.ToUpper(b), []byte("ZADD")) {
			joining.Store(conn, true)
			defer func() {
				select {
				case added <- struct{}{}:
				default:
				}
			}()
		}
		_, _ = w.Write(b)
	}, func(conn int, b []byte, w io.Writer) {
		if _, ok := joining.LoadAndDelete(conn); ok {
			<-told
		}
		_, _ = w.Write(b)
		if bytes.Contains(b, []byte("invalidate")) && bytes.Contains(b, []byte("asgi:group:late")) {
			select {
			case <-wiped:
				tell.Do(func() { close(told) })
			default:
			}
		}
	})
	t.Cleanup(func() { tell.Do(func() { close(told) }) }) // a failed test must not block the proxy
	s := settings()
	s.URLs = []string{"redis://" + proxy.Addr + "/0"}
	b, _ := startCounter(t, s, nil)
	go func() {
		<-added
		for r.Do("EXISTS", "asgi:group:late") == int64(0) {
		}
		close(wiped)
		r.Do("DEL", "asgi:group:late")
	}()
	if err := b.Join(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "membership", func() bool { return r.Do("EXISTS", "asgi:group:late") == int64(1) })
}

// Messages are remembered for a reconnect only until all that waited has been read.
func TestReplaySuspicionEnds(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	gate := make(chan struct{})
	b, c := startCounter(t, settings(r), func(int) { <-gate })
	emit := emitter(t, r)
	emit(0, 1)
	r.KillClients()
	emit(1, 6)
	close(gate)
	c.once(t, 6)
	for i := 6; i < 100; i++ { // each alone, so that nothing is ever asked for in vain
		emit(i, i+1)
		c.once(t, i+1)
	}
	if n := b.Suspects(); n > 10 {
		t.Errorf("%d messages are suspects", n)
	}
}

// A master without its replicas rejects writes. The connection stays, and waiting events are read once the master takes
// writes again.
func TestMasterWithoutReplicas(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	gate := make(chan struct{})
	b, c := startCounter(t, settings(r), func(int) { <-gate })
	emit := emitter(t, r)
	emit(0, 1)
	testkit.Eventually(t, "the first event to be taken", func() bool { return r.Do("ZCARD", channelKeyOf(r)) == int64(0) })
	emit(1, 20)
	r.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	close(gate)
	testkit.Eventually(t, "trouble", func() bool { return strings.Contains(b.Health().Detail, "NOREPLICAS") })
	before, probes := b.Health().Reconnects, calls(t, r)["exists"]
	testkit.Eventually(t, "three more probes", func() bool { return calls(t, r)["exists"] >= probes+3 })
	if n := b.Health().Reconnects - before; n > 0 {
		t.Errorf("%d new connections", n)
	}
	r.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	c.once(t, 20)
}

// Scores that are no time are none.
func TestScoresOutOfRange(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	_, sink := start(t, settings(r), "g")
	member := r.Do("ZRANGE", "asgi:group:g", 0, 0).([]any)[0].(string)
	scores := []string{"inf", "-inf", "1e300", "1e15", "-5"}
	for i, score := range scores {
		message := fmt.Sprintf("%012d\x83\xa4type\xb0internal.message\xa4text\xa2{}\xb0__asgi_channel__\xd9%c%s",
			i, len(member), member)
		r.Do("ZADD", channelKeyOf(r), score, message)
		testkit.Eventually(t, "the event", func() bool { return len(sink.Texts("g")) == i+1 })
	}
	for _, e := range sink.Events() {
		if !e.Sent.IsZero() {
			t.Errorf("sent %v", e.Sent)
		}
	}
}
