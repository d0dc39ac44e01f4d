package backplane_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
)

// toldNode is a hub that keeps the losses of which its clients are told.
type toldNode struct {
	*hub.Hub
	mu    sync.Mutex
	told  map[relay.LossCause]int // events
	times map[relay.LossCause]int
	of    map[string]bool // groups
}

func (n *toldNode) Lost(l relay.Loss) {
	n.mu.Lock()
	n.told[l.Cause] += l.Events
	n.times[l.Cause]++
	if l.Cause == relay.LossPeer || l.Cause == relay.LossPeerLink {
		if l.All {
			n.of[""] = true
		}
		for _, g := range l.Groups {
			n.of[g] = true
		}
	}
	n.mu.Unlock()
	n.Hub.Lost(l)
}

// modelNode is a node of the model. A restart ends its run and starts another one on the same layer and history.
type modelNode struct {
	m        *model
	name     string
	layer    *memory.Layer
	history  *sharedHistory
	told     *toldNode
	plane    *backplane.Backplane
	client   *client
	server   *http.Server
	served   chan struct{}
	emitted  map[string]int    // by group
	got      map[string][]int  // by group of the other node: the numbers, in order, of all runs
	dropped  map[string]uint64 // of all runs
	restarts int
}

// model is two nodes that dial each other, and what happens to them.
type model struct {
	t      *testing.T
	random *rand.Rand
	net    *fakeNet
	nodes  [2]*modelNode
	limit  int

	traceMu sync.Mutex
	trace   []string
}

const modelAge = time.Minute

var modelGroups = []string{"job-1", "job-2", "job-3", "other-1", "other-2"}

func newModel(t *testing.T, seed uint64, limit int) *model {
	m := &model{t: t, random: rand.New(rand.NewPCG(seed, 7)), net: newFakeNet(), limit: limit}
	for i := range m.nodes {
		m.nodes[i] = &modelNode{
			m: m, name: fmt.Sprint("node", i, ":80"), layer: memory.NewLayer(), history: newHistory(),
			emitted: map[string]int{}, got: map[string][]int{}, dropped: map[string]uint64{},
		}
	}
	for _, n := range m.nodes {
		n.history.exact = true
		n.start()
	}
	m.settle(10 * time.Second)
	for _, n := range m.nodes { // without what may be missing from before the first link
		n.told.mu.Lock()
		clear(n.told.times)
		clear(n.told.of)
		n.told.mu.Unlock()
	}
	return m
}

func (m *model) other(n *modelNode) *modelNode {
	if m.nodes[0] == n {
		return m.nodes[1]
	}
	return m.nodes[0]
}

// start starts a run of a node.
func (n *modelNode) start() {
	log := slog.New(slog.NewTextHandler(noted{n.m, n.name}, nil))
	h := hub.New(log)
	if err := h.SetBroker(n.m.t.Context(), n.layer.Broker()); err != nil {
		n.m.t.Fatal(err)
	}
	h.SetHistory(n.history)
	n.told = &toldNode{
		Hub: h, told: map[relay.LossCause]int{}, times: map[relay.LossCause]int{}, of: map[string]bool{},
	}
	s := backplane.Settings{
		Secrets: backplane.Secrets{secret}, Name: n.name, Retry: time.Second, JoinWait: time.Second, QueueBytes: n.m.limit,
		QueueAge: modelAge,
	}
	peersOf("http://" + n.m.other(n).name)(&s)
	plane, err := backplane.New(n.told, s, log)
	if err != nil {
		n.m.t.Fatal(err)
	}
	plane.BeUntimed() // a compressor is shared by all tests, which a bubble does not allow
	plane.DialWith(n.m.net.dial)
	n.plane = plane
	n.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e, ok := backplane.Endpoint(r.URL.Path); ok {
			if status := plane.Serve(w, r, e); status != 0 {
				http.Error(w, http.StatusText(status), status)
			}
		}
	})}
	listener := n.m.net.listen(n.name)
	n.served = make(chan struct{})
	go func() {
		defer close(n.served)
		_ = n.server.Serve(listener)
	}()
	plane.Start()
	n.client = &client{}
	n.client.s = h.Open(n.client, relay.Identity{}, netip.Addr{})
	if _, err := n.client.s.Subscribe(n.m.t.Context(), relay.Groups(modelGroups...)); err != nil {
		n.m.t.Fatal(err)
	}
}

// stop ends the run, gracefully or as if it were killed.
func (n *modelNode) stop(kill bool) {
	if kill {
		n.m.net.mu.Lock()
		delete(n.m.net.listeners, n.name)
		n.m.net.mu.Unlock()
		for _, w := range slices.Concat(n.m.net.list(n.name), n.m.net.list(n.m.other(n).name)) {
			w.cut(reset)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = n.plane.Close(ctx)
	_ = n.server.Close()
	<-n.served
	n.collect()
	n.client.s.Close()
	_ = n.told.Close(ctx)
}

// collect adds what the client of this run got, and what the run has dropped.
func (n *modelNode) collect() {
	n.client.mu.Lock()
	defer n.client.mu.Unlock()
	for _, text := range n.client.texts {
		name, number, _ := strings.Cut(text, " ")
		at, err := strconv.Atoi(strings.TrimRight(number, "."))
		if err != nil {
			n.m.t.Fatal(err)
		}
		n.got[name] = append(n.got[name], at)
	}
	for why, count := range n.plane.Stats().Dropped {
		n.dropped[why] += count
	}
}

// lost returns the number of events that the node's peer does not get.
func (n *modelNode) lost() int {
	return int(n.dropped["queue_full"] + n.dropped["expired"] + n.dropped["link_lost"])
}

// emit emits events of a node's layer.
func (n *modelNode) emit(count, size int) {
	b := n.layer.Broker()
	for range count {
		g := modelGroups[n.m.random.IntN(len(modelGroups))]
		text := fmt.Sprintf("%s/%s %d%s", n.name, g, n.emitted[g], strings.Repeat(".", size))
		n.emitted[g]++
		time.Sleep(time.Microsecond) // the time is a part of the position
		if _, err := b.Publish(context.Background(), g, []byte(text)); err != nil {
			n.m.t.Fatal(err)
		}
	}
}

func (m *model) note(format string, args ...any) {
	m.traceMu.Lock()
	defer m.traceMu.Unlock()
	m.trace = append(m.trace, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// noted keeps the log of a node in the trace.
type noted struct {
	m    *model
	name string
}

func (n noted) Write(b []byte) (int, error) {
	n.m.note("%s: %s", n.name, bytes.TrimSpace(b))
	return len(b), nil
}

// settle lets time pass.
func (m *model) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// heal repairs the network.
func (m *model) heal() {
	for _, n := range m.nodes {
		m.net.stall(n.name, false)
	}
}

// step does something at random. outage bounds the time for which a fault lasts. It reports whether there was one.
func (m *model) step(outage time.Duration, size int) (wasOut bool) {
	n := m.nodes[m.random.IntN(2)]
	switch m.random.IntN(10) {
	case 0: // one link breaks
		if wires := m.net.list(n.name); len(wires) > 0 {
			how := breakage(m.random.IntN(2))
			m.note("cut a link to %s: %d", n.name, how)
			wires[m.random.IntN(len(wires))].cut(how)
		}
	case 1: // nothing passes for a time
		both := m.random.IntN(2) == 0
		for _, to := range m.nodes {
			if both || to == n {
				m.net.stall(to.name, true)
			}
		}
		lasts := time.Duration(m.random.Int64N(int64(outage)))
		m.note("outage of %v, both: %v", lasts, both)
		for range 5 {
			m.nodes[m.random.IntN(2)].emit(m.random.IntN(8), m.random.IntN(size))
			m.settle(lasts / 5)
		}
		m.heal()
		return true
	case 2:
		m.settle(time.Duration(m.random.Int64N(int64(5 * time.Second))))
	case 3: // the moment matters: no settling
		n.emit(m.random.IntN(30), m.random.IntN(size))
		time.Sleep(time.Duration(m.random.IntN(2000)) * time.Microsecond)
	default:
		n.emit(m.random.IntN(20), m.random.IntN(size))
	}
	return false
}

// finish repairs everything, and lets the nodes end.
func (m *model) finish() {
	m.heal()
	m.settle(5 * time.Minute)
	for _, n := range m.nodes {
		n.emit(len(modelGroups)*10, 1)
	}
	m.settle(time.Minute)
	for _, n := range m.nodes {
		if n.plane.Incomplete("job-1") {
			m.t.Error(n.name, "events may be missing at the end")
		}
	}
	for _, n := range m.nodes {
		n.stop(false)
	}
	time.Sleep(time.Minute) // timers of connections
}

// once checks that each event came at most once and in order, and returns the number of events that did not come to a
// node, and their groups.
func (n *modelNode) once() (missing int, groups []string) {
	from := n.m.other(n)
	for _, g := range modelGroups {
		last := -1
		for _, at := range n.got[from.name+"/"+g] {
			if at <= last {
				n.m.t.Errorf("%s: event %d of %s behind %d", n.name, at, g, last)
				break
			}
			last = at
		}
		if count := from.emitted[g] - len(n.got[from.name+"/"+g]); count > 0 {
			missing += count
			groups = append(groups, g)
		}
	}
	return missing, groups
}
