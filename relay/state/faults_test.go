package state

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// tally counts what one key was told: every acknowledged addition, and those whose effect is unknown.
type tally struct {
	acknowledged, unknown atomic.Int64
}

// load adds 1 to a key from several goroutines until stop is closed, and returns when every request is answered.
func load(t testing.TB, s *Store, key string, stop chan struct{}) *tally {
	var counts tally
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				res := call(t, s, &Request{Op: Add, Key: key, Delta: 1})
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("a response came after %v", took)
				}
				switch res.Status {
				case OK:
					counts.acknowledged.Add(1)
				case Unavailable:
					counts.unknown.Add(1)
				default:
					t.Errorf("status %d", res.Status)
				}
			}
		})
	}
	all.Wait()
	return &counts
}

// sum returns a counter's value once Redis answers.
func sum(t testing.TB, s *Store, key string) (n int64) {
	t.Helper()
	testkit.Eventually(t, "the store answers", func() error {
		res := call(t, s, &Request{Op: Add, Key: key})
		if res.Status != OK {
			return fmt.Errorf("status %d: %s", res.Status, s.Trouble())
		}
		n, _ = strconv.ParseInt(string(res.Body), 10, 64)
		return nil
	})
	return n
}

// check compares a counter with the acknowledged additions. Each of these counts once, and each other one may count.
func (c *tally) check(t testing.TB, got int64) {
	t.Helper()
	low, high := c.acknowledged.Load(), c.acknowledged.Load()+c.unknown.Load()
	if got < low || got > high {
		t.Errorf("sum %d, want %d to %d", got, low, high)
	}
}

func TestAcknowledgedWritesSurviveLostConnections(t *testing.T) {
	r := peers.StartRedis(t)
	s := openRedis(t, r.URL, Limits{})
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for range 20 {
			time.Sleep(20 * time.Millisecond)
			r.KillClients()
		}
	}()
	counts := load(t, s, "n", stop)
	counts.check(t, sum(t, s, "n"))
	if counts.acknowledged.Load() == 0 {
		t.Error("no request was acknowledged")
	}
}

func TestPausedRedisAnswersUnavailableInTime(t *testing.T) {
	r := peers.StartRedis(t)
	s := openRedis(t, r.URL, Limits{Timeout: time.Second})
	want(t, s, &Request{Op: Add, Key: "n", Delta: 1}, OK, "1")
	r.Signal(syscall.SIGSTOP)
	stop := make(chan struct{})
	time.AfterFunc(3*time.Second, func() { close(stop) })
	counts := load(t, s, "n", stop)
	counts.acknowledged.Add(1)
	if counts.unknown.Load() < 8 {
		t.Errorf("%d requests were answered as unavailable", counts.unknown.Load())
	}
	if s.Trouble() == "" {
		t.Error("the store reports no trouble")
	}
	r.Signal(syscall.SIGCONT)
	counts.check(t, sum(t, s, "n"))
	if text := s.Trouble(); text != "" {
		t.Errorf("trouble after recovery: %s", text)
	}
}

// TestLateRequestsDoNotOverwriteLaterOnes holds a request back on its way to Redis. It is answered as unavailable, and
// must not take effect after a request that was acknowledged since.
func TestLateRequestsDoNotOverwriteLaterOnes(t *testing.T) {
	r := peers.StartRedis(t)
	var conns, held atomic.Int64 // the number of connections, and of those that are held back
	release, replied := make(chan struct{}), make(chan string, 100)
	free := sync.OnceFunc(func() { close(release) })
	passed := make([]chan struct{}, 100)
	for i := range passed {
		passed[i] = make(chan struct{}, 100)
	}
	link := testkit.StartRelay(t, r.Addr, func(conn int, b []byte, to io.Writer) {
		conns.Store(max(conns.Load(), int64(conn)+1))
		if int64(conn) >= held.Load() {
			_, _ = to.Write(b)
			return
		}
		<-release
		_, _ = to.Write(b)
		<-passed[conn] // The client has closed the connection: its end ends the link.
	}, func(conn int, b []byte, to io.Writer) {
		if int64(conn) < held.Load() {
			replied <- string(b)
			passed[conn] <- struct{}{}
		}
		_, _ = to.Write(b)
	})
	t.Cleanup(func() { // before the link ends
		free()
		for _, c := range passed {
			close(c)
		}
	})
	s := openRedis(t, "redis://"+link.Addr, Limits{Timeout: 500 * time.Millisecond})
	want(t, s, &Request{Op: Set, Key: "a", Value: []byte("first")}, OK, "")
	held.Store(conns.Load())
	want(t, s, &Request{Op: Set, Key: "a", Value: []byte("late")}, Unavailable, "")
	testkit.Eventually(t, "a write is acknowledged", func() bool {
		return call(t, s, &Request{Op: Set, Key: "a", Value: []byte("current")}).Status == OK
	})
	free()
	for reply := ""; !strings.Contains(reply, "-100"); { // It may have been the turn of another connection.
		select {
		case reply = <-replied:
		case <-time.After(testkit.Patience):
			t.Fatalf("last reply to late requests: %q", reply)
		}
	}
	want(t, s, &Request{Op: Get, Key: "a"}, OK, "current")
}

func TestStoreWorksAfterRedisRestarts(t *testing.T) {
	r := peers.StartRedis(t)
	s := openRedis(t, r.URL, Limits{Timeout: time.Second})
	want(t, s, &Request{Op: Set, Key: "a", Value: []byte("x")}, OK, "")
	_, list := schedule(t, s, "a", 0)
	r.Kill()
	want(t, s, &Request{Op: Get, Key: "a"}, Unavailable, "")
	r.Restart()
	testkit.Eventually(t, "the store answers", func() bool {
		return call(t, s, &Request{Op: Get, Key: "a"}).Status == None
	})
	want(t, s, &Request{Op: AlarmSet, Key: "a", At: time.Now()}, OK, "")
	next(t, list)
}

// TestShortRestartCostsNoRequest restarts Redis within the time that a request may wait: nothing was sent, so the
// request is answered once Redis is back.
func TestShortRestartCostsNoRequest(t *testing.T) {
	r := peers.StartRedis(t)
	s := openRedis(t, r.URL, Limits{Timeout: 20 * time.Second})
	want(t, s, &Request{Op: Get, Key: "a"}, None, "")
	r.Kill()
	// The first request finds the end of the connection; its effect is unknown.
	call(t, s, &Request{Op: Get, Key: "a"})
	answered := make(chan Response, 1)
	s.Start(&Request{Plugin: "game", Op: Add, Key: "n", Delta: 1}, func(res Response) { answered <- res })
	r.Restart()
	if res := <-answered; res.Status != OK || string(res.Body) != "1" {
		t.Errorf("got %d %q", res.Status, res.Body)
	}
}

func TestEmptiedRedisNeedsNoRestart(t *testing.T) {
	r := peers.StartRedis(t)
	s := openRedis(t, r.URL, Limits{})
	want(t, s, &Request{Op: Add, Key: "n", Delta: 1}, OK, "1")
	r.Do("FLUSHALL")
	want(t, s, &Request{Op: Add, Key: "n", Delta: 1}, OK, "1")
	r.Do("SCRIPT", "FLUSH")
	want(t, s, &Request{Op: Add, Key: "n", Delta: 1}, OK, "2")
}

func TestFullQueueIsBusyAndCloseAnswersAll(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c, err := Connect(Hosts{URLs: []string{"redis://" + silent.Addr().String()}}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := Open(c, Limits{Timeout: 2 * time.Second}, slog.New(slog.DiscardHandler))
	var busy, unavailable atomic.Int64
	var all sync.WaitGroup
	count := func(res Response) {
		defer all.Done()
		switch res.Status {
		case Busy:
			busy.Add(1)
		case Unavailable:
			unavailable.Add(1)
		}
	}
	for _, plugin := range []string{"greedy", "modest"} {
		for range map[string]int{"greedy": 10_000, "modest": 1000}[plugin] {
			all.Add(1)
			s.Start(&Request{Plugin: plugin, Op: Get, Key: "a"}, count)
		}
	}
	s.Close()
	all.Add(1)
	s.Start(&Request{Plugin: "modest", Op: Get, Key: "a"}, count)
	all.Wait()
	if b, u := busy.Load(), unavailable.Load(); b != 10_000-maxQueued/2 || u != maxQueued/2+1001 {
		t.Errorf("%d busy and %d unavailable", b, u)
	}
}

// However many plugins fill the queue, there is room for a request of another one.
func TestAFullQueueHasRoomForAnotherPlugin(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c, err := Connect(Hosts{URLs: []string{"redis://" + silent.Addr().String()}}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := Open(c, Limits{Timeout: time.Minute}, slog.New(slog.DiscardHandler)) // no request gets too old
	var busy [4]atomic.Int64
	var all sync.WaitGroup
	for plugin := range busy {
		for range []int{maxQueued, maxQueued, maxQueued, 1}[plugin] {
			all.Add(1)
			s.Start(&Request{Plugin: fmt.Sprint(plugin), Op: Get, Key: "a"}, func(res Response) {
				defer all.Done()
				if res.Status == Busy {
					busy[plugin].Add(1)
				}
			})
		}
	}
	s.Close()
	all.Wait()
	for plugin, want := range []int64{maxQueued / 2, maxQueued * 3 / 4, maxQueued * 7 / 8, 0} {
		if got := busy[plugin].Load(); got != want {
			t.Errorf("plugin %d: %d requests refused, want %d", plugin, got, want)
		}
	}
}
