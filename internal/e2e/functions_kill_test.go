package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// functionLoad is the size of a run.
type functionLoad struct {
	rooms, clients int           // clients of each room
	pause          time.Duration // of a client between two writes
	before, after  int64         // acknowledged writes until the kill, and from the kill on
	alarms         int
	// amid kills the node while its alarms fire. Those that it was processing fire again when their lease ends, so the
	// run takes half a minute more. Otherwise no alarm is due before the kill.
	amid bool
}

// functionLoadOf returns the size of the run: EDGERELAY_FUNCTIONS=full is 1,000 rooms with 10 clients each, which needs
// 11,000 file descriptors.
func functionLoadOf(t *testing.T) functionLoad {
	switch given := os.Getenv("EDGERELAY_FUNCTIONS"); given {
	case "":
		return functionLoad{rooms: 60, clients: 5, pause: 20 * time.Millisecond, before: 5000, after: 5000, alarms: 300}
	case "full":
		return functionLoad{
			rooms: 1000, clients: 10, pause: time.Second, before: 100_000, after: 100_000, alarms: 3000, amid: true,
		}
	default:
		t.Fatalf("EDGERELAY_FUNCTIONS=%s: want full, or nothing for a short run", given)
		return functionLoad{}
	}
}

const (
	// alarmDelay is the delay of the first alarm, and alarmSpread the time between the first and the last one.
	alarmDelay, alarmSpread = 3 * time.Second, 4 * time.Second
	// listRoom is the number of values that a room pushes to a list before the next one begins.
	listRoom = 900
)

// A node is killed while the clients of a function write to the shared state by two nodes. Its clients continue on the
// other node, and its alarms fire there. No acknowledged write is lost, and none is applied twice.
func TestNodeWithFunctionIsKilled(t *testing.T) {
	t.Parallel()
	load := functionLoadOf(t)
	redis := peers.StartRedis(t)
	// A full mailbox would drop messages of alarms.
	config := routesOn("redis "+redis.URL+" {\ncapacity 10000\n}\n"+plugin("f", guest(t, "function"),
		"grant shared alarms", "fetch https://example.com", "join room_*", "publish room_* closed results alarms"),
		"route /ws/{room}/ {\nfunction f\nlimits {\nmessage_rate 1000\n}\n}\nroute /watch/ {\ngroups alarms\n}\n")
	nodes := []*peers.Relay{peers.StartRelay(t, config), peers.StartRelay(t, config)}
	watcher, err := dialRoute(nodes[1], "/watch/")
	if err != nil {
		t.Fatal(err)
	}
	crowd := &functionCrowd{load: load, nodes: nodes}
	if err := crowd.dial(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	began := time.Now()
	wait := crowd.start(ctx, t)
	defer wait()
	defer stop()
	limit := testkit.Scale(5 * time.Minute)
	testkit.EventuallyWithin(t, limit, "writes", func() error { return crowd.acknowledged(load.before) })
	rate := float64(crowd.writes.Load()) / time.Since(began).Seconds()
	names := setAlarms(t, nodes[0], load.alarms)
	if load.amid {
		testkit.EventuallyWithin(t, limit, "some alarms", func() bool { return len(firedAlarms(watcher)) > load.alarms/3 })
	}
	early, at := len(firedAlarms(watcher)), crowd.writes.Load()
	nodes[0].Kill()
	killed := time.Now()
	testkit.EventuallyWithin(t, limit, "all clients on the other node", crowd.moved)
	outage := time.Since(killed)
	testkit.EventuallyWithin(t, limit, "more writes", func() error { return crowd.acknowledged(at + load.after) })
	rateAfter := float64(crowd.writes.Load()-at) / time.Since(killed).Seconds()
	stop()
	wait()
	testkit.EventuallyWithin(t, testkit.Scale(time.Minute), "the alarms", func() error {
		fired := firedAlarms(watcher)
		for _, name := range names {
			if fired[name] == 0 {
				return fmt.Errorf("%d of %d have fired, %d before the kill; %s has not", len(fired), len(names), early, name)
			}
		}
		return nil
	})
	fired, again := firedAlarms(watcher), 0
	for _, n := range fired {
		again += n - 1
	}
	if early == len(fired) {
		t.Error("no alarm has fired after the kill")
	}
	alarmsTook := time.Since(killed)
	crowd.check(t)
	t.Logf("%d clients, %.0f writes/s before the kill and %.0f after; %d acknowledged, %d unknown (%d applied), "+
		"%d refused; all clients write again %v after the kill; alarms: %d before the kill, %d after it, %d of them again, the last %v "+
		"after it; %v in all", len(crowd.writers), rate, rateAfter, crowd.writes.Load(), crowd.unknown.Load(),
		crowd.applied, crowd.refused.Load(), outage.Round(time.Millisecond), early, len(fired)-early, again,
		alarmsTook.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// functionCrowd is the clients of the function, on both nodes.
type functionCrowd struct {
	load    functionLoad
	nodes   []*peers.Relay
	writers []*functionWriter

	writes, unknown, refused, returned atomic.Int64
	applied                            int64 // unknown writes that check has found
}

// dial connects the clients. Each room has clients on both nodes.
func (c *functionCrowd) dial() error {
	c.writers = make([]*functionWriter, c.load.rooms*c.load.clients)
	return each(len(c.writers), func(i int) error {
		w := &functionWriter{crowd: c, name: "c" + strconv.Itoa(i), room: i / c.load.clients, node: i % 2, moves: i%2 == 0}
		c.writers[i] = w
		return w.dial()
	})
}

// start makes all clients write until ctx ends. The result waits for the last responses.
func (c *functionCrowd) start(ctx context.Context, t *testing.T) (wait func()) {
	var running sync.WaitGroup
	for _, w := range c.writers {
		running.Go(func() {
			if err := w.run(ctx); err != nil {
				t.Errorf("%s of room %d: %v", w.name, w.room, err)
			}
		})
	}
	return running.Wait
}

func (c *functionCrowd) acknowledged(want int64) error {
	if n := c.writes.Load(); n < want {
		return fmt.Errorf("%d of %d writes acknowledged, %d unknown", n, want, c.unknown.Load())
	}
	return nil
}

// moved returns an error unless every client of the first node writes on the other one.
func (c *functionCrowd) moved() error {
	if n, want := c.returned.Load(), int64(len(c.writers)/2); n != want {
		return fmt.Errorf("%d of %d clients", n, want)
	}
	return nil
}

// check compares the state with what the clients know.
func (c *functionCrowd) check(t *testing.T) {
	t.Helper()
	reader, err := dialFunction(c.nodes[1], "room_0")
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	var sum, acknowledged int64
	for room := range c.load.rooms {
		clients := c.writers[room*c.load.clients:][:c.load.clients]
		total, added, err := checkCounter(reader, room, clients)
		sum, acknowledged = sum+total, acknowledged+added
		c.applied += total - added
		values, listErr := checkLists(reader, room, clients)
		acknowledged += values
		if err := errors.Join(err, listErr); err != nil {
			t.Errorf("room %d: %v", room, err)
		}
	}
	if sum == 0 || acknowledged != c.writes.Load() {
		t.Errorf("the counters are %d in all; %d acknowledged writes of %d were looked for", sum, acknowledged,
			c.writes.Load())
	}
}

// setAlarms sets alarms by a client of a node, which ends with the node, and returns their names.
func setAlarms(t *testing.T, r *peers.Relay, count int) (names []string) {
	t.Helper()
	conn, err := dialFunction(r, "room_0")
	if err != nil {
		t.Fatal(err)
	}
	const together = 50 // below the number of requests that a client may have in flight
	for first := 0; first < count; first += together {
		batch := min(together, count-first)
		for i := first; i < first+batch; i++ {
			names = append(names, fmt.Sprintf("alarm%d.payload", i))
			delay := alarmDelay + alarmSpread*time.Duration(i)/time.Duration(count)
			if err := conn.Send(fmt.Sprintf(`{"do":"alarm","key":"alarm%d","value":".payload","at":%d,"context":"alarm"}`,
				i, delay.Milliseconds())); err != nil {
				t.Fatal(err)
			}
		}
		for range batch {
			if text, err := conn.Next(testkit.Patience); text != "alarm 0 " {
				t.Fatalf("an alarm was not set: %q, %v", text, err)
			}
		}
	}
	return names
}

// firedAlarms returns how often each alarm has reached the client.
func firedAlarms(watcher *routeClient) map[string]int {
	watcher.mu.Lock()
	defer watcher.mu.Unlock()
	fired := map[string]int{}
	for _, text := range watcher.odd {
		if strings.HasPrefix(text, "alarm") {
			fired[text]++
		}
	}
	return fired
}
