package redis_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/redis"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// counter is a sink of events {"n": <number>}, which first lets before look at each batch.
type counter struct {
	before func(events int)
	mu     sync.Mutex
	seen   map[int]int
}

func (c *counter) Deliver(events []relay.Event) {
	if c.before != nil {
		c.before(len(events))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range events {
		var ev struct{ N int }
		if json.Unmarshal(e.Text, &ev) == nil {
			c.seen[ev.N]++
		}
	}
}

func (c *counter) distinct() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

// once waits for events 0 to n-1, and sees to it that each came once.
func (c *counter) once(t *testing.T, n int) {
	t.Helper()
	relaytest.Eventually(t, "all events", func() bool { return c.distinct() >= n })
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, times := range c.seen {
		if times != 1 || i < 0 || i >= n {
			t.Errorf("event %d came %d times", i, times)
		}
	}
}

// startCounter starts a Broker that is a member of group g.
func startCounter(t *testing.T, s redis.Settings, before func(int)) (*redis.Broker, *counter) {
	t.Helper()
	b, c := newBroker(t, s), &counter{before: before, seen: map[int]int{}}
	if err := b.Start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = b.Close(ctx)
	})
	ctx, cancel := context.WithTimeout(context.Background(), relaytest.Patience)
	defer cancel()
	if err := b.Join(ctx, "g"); err != nil {
		t.Fatal(err)
	}
	return b, c
}

// emitter returns a function that publishes events from, …, to-1 to g, as an emitter of its own.
func emitter(t *testing.T, r *peers.Redis) func(from, to int) {
	p := newBroker(t, settings(r))
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			if r, err := p.Publish(context.Background(), "g", fmt.Appendf(nil, `{"n": %d}`, i)); err != nil || r.Members != 1 || r.OverCapacity > 0 {
				t.Fatal(i, r, err)
			}
		}
	}
}

// oracle is a sentinel that says what it is told to.
type oracle struct {
	addr  string
	mu    sync.Mutex
	to    string
	epoch int
	delay time.Duration
	asked atomic.Int64
}

func (o *oracle) say(to *peers.Redis, epoch int, delay time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to, o.epoch, o.delay = to.Addr, epoch, delay
}

// heard waits until what was said has been asked for twice.
func (o *oracle) heard(t *testing.T) {
	t.Helper()
	n := o.asked.Load()
	relaytest.Eventually(t, "two questions to a sentinel", func() bool { return o.asked.Load() >= n+2 })
}

func newOracle(t *testing.T, to *peers.Redis, epoch int) *oracle {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &oracle{addr: ln.Addr().String(), to: to.Addr, epoch: epoch}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go o.serve(c)
		}
	}()
	return o
}

func (o *oracle) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for {
		var args []string
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
		for range n {
			if _, err = r.ReadString('\n'); err != nil {
				return
			}
			arg, err := r.ReadString('\n')
			if err != nil {
				return
			}
			args = append(args, strings.ToUpper(strings.TrimSpace(arg)))
		}
		answer := "+OK\r\n"
		switch args[0] {
		case "HELLO":
			answer = "-ERR unknown command\r\n"
		case "SENTINEL":
			o.mu.Lock()
			to, epoch, delay := o.to, strconv.Itoa(o.epoch), o.delay
			o.mu.Unlock()
			time.Sleep(delay) // its slowness
			host, port, _ := net.SplitHostPort(to)
			answer = "*6\r\n"
			for _, s := range []string{"ip", host, "port", port, "config-epoch", epoch} {
				answer += fmt.Sprintf("$%d\r\n%s\r\n", len(s), s)
			}
			o.asked.Add(1)
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

func watchedBy(oracles ...*oracle) redis.Settings {
	s := settings()
	m := redis.Sentinel{Master: "m"}
	for _, o := range oracles {
		m.Addresses = append(m.Addresses, o.addr)
	}
	s.Sentinels = []redis.Sentinel{m}
	return s
}

// pair is a master and its replica.
func pair(t *testing.T) (master, replica *peers.Redis) {
	master = peers.StartRedis(t, "--repl-diskless-sync-delay", "0")
	return master, peers.StartReplica(t, master, "--repl-diskless-sync-delay", "0")
}

// promote makes the replica a master that has all that the other one has.
func promote(master, replica *peers.Redis) {
	master.Do("WAIT", 1, 5000)
	replica.Do("REPLICAOF", "NO", "ONE")
}

// gates hold a sink: the first batch until there is a backlog, the first full batch for as long as the test likes.
type gates struct {
	first, full chan struct{}
	inFull      chan struct{}
	once        sync.Once
	after       func()
}

func newGates() *gates {
	return &gates{first: make(chan struct{}), full: make(chan struct{}), inFull: make(chan struct{})}
}

func (g *gates) before(events int) {
	began := false
	if events < 400 {
		select {
		case <-g.inFull:
		default:
			<-g.first
			return
		}
	} else {
		g.once.Do(func() { began = true; close(g.inFull); <-g.full })
	}
	if !began && g.after != nil {
		g.after()
	}
}

// A backlog is being read when another master is named, and the former one dies before the rest of it has been read: the new one has it, too.
func TestFailoverInABacklog(t *testing.T) {
	t.Parallel()
	old, young := pair(t)
	o := newOracle(t, old, 1)
	g := newGates()
	_, c := startCounter(t, watchedBy(o), g.before)
	emit := emitter(t, old)
	emit(0, 1)
	relaytest.Eventually(t, "the first event to be taken", func() bool { return old.Do("ZCARD", channelKeyOf(old)) == int64(0) })
	emit(1, 1500)
	close(g.first)
	<-g.inFull
	promote(old, young)
	o.say(young, 2, 0)
	o.heard(t)
	old.Kill()
	close(g.full)
	c.once(t, 1500)
}

// What the new master had of the former one's messages has been delivered from there before the former one is read on: none comes twice.
func TestFailoverShowsNothingTwice(t *testing.T) {
	t.Parallel()
	old, young := pair(t)
	o := newOracle(t, old, 1)
	g := newGates()
	g.after = func() { time.Sleep(700 * time.Millisecond) } // a slow sink, so that both masters are read side by side
	_, c := startCounter(t, watchedBy(o), g.before)
	emit := emitter(t, old)
	emit(0, 1)
	relaytest.Eventually(t, "the first event to be taken", func() bool { return old.Do("ZCARD", channelKeyOf(old)) == int64(0) })
	emit(1, 1500)
	close(g.first)
	<-g.inFull
	emit(1500, 1600)
	promote(old, young)
	o.say(young, 2, 0)
	o.heard(t)
	close(g.full)
	relaytest.Eventually(t, "membership at the new master", func() bool { return young.Do("ZCARD", "asgi:group:g") == int64(1) })
	time.Sleep(150 * time.Millisecond) // for the new master to be read empty
	emitter(t, young)(1600, 2200)
	c.once(t, 2200)
}

// channelKeyOf is the one channel key of a layer's only node.
func channelKeyOf(r *peers.Redis) string {
	for _, member := range r.Do("ZRANGE", "asgi:group:g", 0, -1).([]any) {
		name, _, _ := strings.Cut(member.(string), "!")
		return "asgi" + name + "!"
	}
	return ""
}

// A sentinel that is behind is not believed while the one that knows is slow, and the channel key has one reader.
func TestSentinelThatIsBehind(t *testing.T) {
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
	knows.say(young, 7, 300*time.Millisecond)
	behind.heard(t)
	knows.heard(t)
	knows.say(young, 7, 0)
	knows.heard(t)
	if a, b := readers(old), readers(young); a != 0 || b != 1 {
		t.Errorf("%d readers at the old master, %d at the new one", a, b)
	}
	emitter(t, young)(0, 1000)
	c.once(t, 1000)

	// When all of them begin anew, their word counts.
	behind.say(old, 2, 0)
	knows.say(old, 2, 0)
	relaytest.Eventually(t, "the other master", func() bool { return readers(old) == 1 })
	relaytest.Eventually(t, "membership there", func() bool { return old.Do("ZCARD", "asgi:group:g") == int64(1) })
	emitter(t, old)(1000, 1001)
	c.once(t, 1001)
}

// A master's machine goes without a word, and another is named: that is not waited out.
func TestMasterThatHangs(t *testing.T) {
	t.Parallel()
	old, young := peers.StartRedis(t), peers.StartRedis(t)
	o := newOracle(t, old, 1)
	_, c := startCounter(t, watchedBy(o), nil)
	stop(t, old)
	relaytest.Eventually(t, "a question without an answer", func() bool { time.Sleep(time.Second); return true })
	o.say(young, 2, 0)
	began := time.Now()
	relaytest.Eventually(t, "membership at the new master", func() bool { return young.Do("ZCARD", "asgi:group:g") == int64(1) })
	emitter(t, young)(0, 1)
	c.once(t, 1)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}

// stop has a server stand still for the rest of the test.
func stop(t *testing.T, r *peers.Redis) {
	t.Helper()
	for line := range strings.Lines(r.Do("INFO", "server").(string)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "process_id:"); ok {
			pid, _ := strconv.Atoi(text)
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
		}
	}
}

// Close does not wait for a host that stands still for longer than it may.
func TestCloseWhileTheHostHangs(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	b, _ := startCounter(t, settings(r), nil)
	r.KillClients()
	stop(t, r)
	relaytest.Eventually(t, "trouble", func() bool { return !b.Health().OK })
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

// between is a TCP proxy to a Redis whose down and up, if not nil, carry what they are given as they like.
func between(t *testing.T, to *peers.Redis, up, down func(conn int, b []byte, w io.Writer)) (url string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	carry := func(conn int, w, r net.Conn, how func(int, []byte, io.Writer)) {
		defer func() { _, _ = w.Close(), r.Close() }()
		b := make([]byte, 1<<20)
		for {
			n, err := r.Read(b)
			if n > 0 {
				how(conn, b[:n], w)
			}
			if err != nil {
				return
			}
		}
	}
	plain := func(_ int, b []byte, w io.Writer) { _, _ = w.Write(b) }
	if up == nil {
		up = plain
	}
	if down == nil {
		down = plain
	}
	go func() {
		for i := 0; ; i++ {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to.Addr)
			if err != nil {
				_ = in.Close()
				continue
			}
			go carry(i, out, in, up)
			go carry(i, in, out, down)
		}
	}()
	return "redis://" + ln.Addr().String() + "/0"
}

// The second half of a notification comes late, when the reader has taken the link for quiet.
func TestNotificationInTwoPieces(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	var cut atomic.Bool
	url := between(t, r, nil, func(_ int, b []byte, w io.Writer) {
		const head = "$10\r\ninvalidate\r\n"
		if at := bytes.Index(b, []byte(head)); at >= 0 && cut.CompareAndSwap(true, false) {
			_, _ = w.Write(b[:at+len(head)])
			time.Sleep(900 * time.Millisecond) // a segment was lost, and is sent again
			b = b[at+len(head):]
		}
		_, _ = w.Write(b)
	})
	s := settings()
	s.URLs = []string{url}
	_, c := startCounter(t, s, nil)
	emit := emitter(t, r)
	emit(0, 1)
	c.once(t, 1)
	cut.Store(true)
	emit(1, 2)
	relaytest.Eventually(t, "a notification that is cut", func() bool { return !cut.Load() })
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
	wiped := make(chan struct{})
	url := between(t, r, func(conn int, b []byte, w io.Writer) {
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
			<-wiped
			time.Sleep(100 * time.Millisecond) // so that the notification of it is first
		}
		_, _ = w.Write(b)
	})
	s := settings()
	s.URLs = []string{url}
	b, _ := startCounter(t, s, nil)
	go func() {
		<-added
		for r.Do("EXISTS", "asgi:group:late") == int64(0) {
		}
		r.Do("DEL", "asgi:group:late")
		close(wiped)
	}()
	if err := b.Join(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	relaytest.Eventually(t, "membership", func() bool { return r.Do("EXISTS", "asgi:group:late") == int64(1) })
}

// Messages are remembered for a reconnect only until all that waited has been read.
func TestSuspicionEnds(t *testing.T) {
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

// A master that has lost its replicas refuses writes: the connection stays, and what waits is read when it takes them again.
func TestMasterWithoutReplicas(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	gate := make(chan struct{})
	b, c := startCounter(t, settings(r), func(int) { <-gate })
	emit := emitter(t, r)
	emit(0, 1)
	relaytest.Eventually(t, "the first event to be taken", func() bool { return r.Do("ZCARD", channelKeyOf(r)) == int64(0) })
	emit(1, 20)
	r.Do("CONFIG", "SET", "min-replicas-to-write", "1")
	close(gate)
	relaytest.Eventually(t, "trouble", func() bool { return strings.Contains(b.Health().Detail, "NOREPLICAS") })
	before := b.Health().Reconnects
	time.Sleep(1200 * time.Millisecond) // for several attempts
	if n := b.Health().Reconnects - before; n > 0 {
		t.Errorf("%d new connections", n)
	}
	r.Do("CONFIG", "SET", "min-replicas-to-write", "0")
	c.once(t, 20)
}

// Scores that are no time are none.
func TestScoresThatAreNoTime(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	_, sink := start(t, settings(r), "g")
	member := r.Do("ZRANGE", "asgi:group:g", 0, 0).([]any)[0].(string)
	scores := []string{"inf", "-inf", "1e300", "1e15", "-5"}
	for i, score := range scores {
		r.Do("ZADD", channelKeyOf(r), score, fmt.Sprintf("%012d\x83\xa4type\xb0internal.message\xa4text\xa2{}\xb0__asgi_channel__\xd9%c%s", i, len(member), member))
		relaytest.Eventually(t, "the event", func() bool { return len(sink.Texts("g")) == i+1 })
	}
	for _, e := range sink.Events() {
		if !e.Sent.IsZero() {
			t.Errorf("sent %v", e.Sent)
		}
	}
}
