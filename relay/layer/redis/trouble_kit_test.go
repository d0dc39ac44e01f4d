package redis_test

import (
	"bufio"
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

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
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
	testkit.Eventually(t, "all events", func() bool { return c.distinct() >= n })
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
	run(t, b, c, "g")
	return b, c
}

// emitter returns a function that publishes events from, …, to-1 to g, as an emitter of its own.
func emitter(t *testing.T, r *peers.Redis) func(from, to int) {
	p := newBroker(t, settings(r))
	t.Cleanup(func() { _ = p.Close(context.Background()) })
	return func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			r, err := p.Publish(context.Background(), "g", fmt.Appendf(nil, `{"n": %d}`, i))
			if err != nil || r.Members != 1 || r.OverCapacity > 0 {
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
	gate  chan struct{} // its answers wait for it
	asked atomic.Int64
}

func (o *oracle) say(to *peers.Redis, epoch int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to, o.epoch = to.Addr, epoch
}

// hold keeps answers back until release.
func (o *oracle) hold() (release func()) {
	gate := make(chan struct{})
	o.mu.Lock()
	o.gate = gate
	o.mu.Unlock()
	return func() {
		o.mu.Lock()
		o.gate = nil
		o.mu.Unlock()
		close(gate)
	}
}

// heard waits until what was said has been asked for twice.
func (o *oracle) heard(t *testing.T) {
	t.Helper()
	n := o.asked.Load()
	testkit.Eventually(t, "two questions to a sentinel", func() bool { return o.asked.Load() >= n+2 })
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
			to, epoch, gate := o.to, strconv.Itoa(o.epoch), o.gate
			o.mu.Unlock()
			if gate != nil {
				<-gate
			}
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
	m := redisnet.Sentinel{Master: "m"}
	for _, o := range oracles {
		m.Addresses = append(m.Addresses, o.addr)
	}
	s.Sentinels = []redisnet.Sentinel{m}
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
}

func newGates() *gates {
	return &gates{first: make(chan struct{}), full: make(chan struct{}), inFull: make(chan struct{})}
}

func (g *gates) before(events int) {
	if events >= 400 {
		g.once.Do(func() { close(g.inFull); <-g.full })
		return
	}
	select {
	case <-g.inFull:
	default:
		<-g.first
	}
}

// backlog has a relay read the first full batch of 1,500 events, of which the sink is then in the middle.
func (g *gates) backlog(t *testing.T, r *peers.Redis) {
	t.Helper()
	emit := emitter(t, r)
	emit(0, 1)
	taken(t, r)
	emit(1, 1500)
	close(g.first)
	<-g.inFull
}

// taken waits until nothing is left in the channel key.
func taken(t *testing.T, r *peers.Redis) {
	t.Helper()
	testkit.Eventually(t, "the first event to be taken", func() bool { return r.Do("ZCARD", channelKeyOf(r)) == int64(0) })
}

// channelKeyOf is the one channel key of a layer's only node.
func channelKeyOf(r *peers.Redis) string {
	for _, member := range r.Do("ZRANGE", "asgi:group:g", 0, -1).([]any) {
		name, _, _ := strings.Cut(member.(string), "!")
		return "asgi" + name + "!"
	}
	return ""
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
