package backplane_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// meshVariable names an environment variable with the number of nodes of TestFullMesh, meshNodes if it is not set.
const meshVariable = "EDGERELAY_MESH_NODES"

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Fifty relays in one process make a full mesh; what that costs is written down.
func TestFullMesh(t *testing.T) {
	leakCheck(t)
	count := meshNodes
	if text := os.Getenv(meshVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", meshVariable, err)
		}
		count = n
	}
	var nodes []*node
	for range count {
		nodes = append(nodes, newNode(t, memory.NewLayer()))
	}
	idle := heap()
	goroutines := runtime.NumGoroutine()
	began, cpu := time.Now(), cpuTime(t)
	mesh(t, nodes, func(s *backplane.Settings) { s.Retry = 5 * time.Second })
	took, spent := time.Since(began), cpuTime(t)-cpu
	connections := 0
	for _, n := range nodes {
		for _, p := range n.plane.Peers() {
			if p.State == backplane.StateConnected && p.URL != "" {
				connections++
			}
		}
	}
	t.Logf("%d nodes, full mesh after %v, %v of CPU; %d connections, %d KiB of heap and %.1f goroutines a connection (both ends)",
		count, took.Round(time.Millisecond), spent.Round(time.Millisecond), connections,
		(int64(heap())-int64(idle))>>10/int64(connections), float64(runtime.NumGoroutine()-goroutines)/float64(connections))

	// One client everywhere wants the group: each event goes to all other nodes.
	var clients []*client
	for _, n := range nodes {
		clients = append(clients, n.client("job_events-1"))
	}
	awaitWants(t, nodes, count)
	const events = 2000
	measure := func(name string, want, emitters int) {
		began, cpu = time.Now(), cpuTime(t)
		for i := range events {
			nodes[i%emitters].emit("job_events-1", fmt.Sprintf(`{"n": %d, "stdout": %q}`, i, strings.Repeat("x", 1000)))
		}
		for _, c := range clients[:want] {
			testkit.EventuallyWithin(t, 2*time.Minute, "all events at the node", func() error {
				if got := c.count(); got < events {
					return fmt.Errorf("%d of %d events", got, events)
				}
				return nil
			})
		}
		took, spent := time.Since(began), cpuTime(t)-cpu
		t.Logf("%s: %d events of 1 KB in %v: %.0f events/s, %.1f µs of CPU an event and receiving node", name, events,
			took.Round(time.Millisecond), events/took.Seconds(), float64(spent.Microseconds())/float64(events)/float64(want))
		for _, c := range clients[:want] {
			if got := c.count(); got != events {
				t.Errorf("%d events at a client", got)
			}
			c.forget()
		}
	}
	measure("all nodes want them, one emits", count, 1)
	measure("all nodes want them, all emit in turn", count, count)
	few := min(5, count)
	for i, c := range clients[few:] {
		c.subscribe(nodes[few+i])
	}
	awaitWants(t, nodes, few)
	measure(fmt.Sprint(few, " nodes want them, one emits"), few, 1)
	measure(fmt.Sprint(few, " nodes want them, all emit in turn"), few, count)
}

// awaitWants waits until every node has heard that the first few nodes, and no others, want one group of it.
func awaitWants(t *testing.T, nodes []*node, few int) {
	t.Helper()
	for i, n := range nodes {
		want := few
		if i < few {
			want-- // itself
		}
		testkit.EventuallyWithin(t, 2*time.Minute, "interest of all peers", func() error {
			got := 0
			for _, p := range n.plane.Peers() {
				got += p.Groups
			}
			if got != want {
				return fmt.Errorf("node %d knows of %d wishes, want %d", i, got, want)
			}
			return nil
		})
	}
}
