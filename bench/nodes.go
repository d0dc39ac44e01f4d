//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/backplane"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

// Rows with many nodes run many relays in one child process, without Caddy. Each relay has one client, whose socket
// counts and drops frames, so that the measured cost is that of bringing an event to another node.

// nodeOrder asks the child process to wait until Events have arrived at every node, after publishing them at the
// first node if Publish is set. Pace is in events per second, 0: full speed.
type nodeOrder struct {
	Events  int     `json:"events"`
	Publish bool    `json:"publish"`
	Pace    float64 `json:"pace"`
}

// nodeAnswer is the reply to an order, and the first message once all nodes run.
type nodeAnswer struct {
	Error       string  `json:"error,omitempty"`
	Connections int     `json:"connections"` // of the backplane
	HeapKiB     float64 `json:"heap_kib"`
	Seconds     float64 `json:"seconds"`
}

// countingSocket is a client that accepts every frame.
type countingSocket struct{ frames atomic.Int64 }

func (c *countingSocket) Send(frames []byte, _ int) bool {
	for n := int64(0); ; n++ {
		f, length, err := parseFrame(frames)
		if length == 0 || err != nil {
			c.frames.Add(n)
			return true
		}
		if _, _, event := parseEvent(f.payload); !event {
			n--
		}
		frames = frames[length:]
	}
}
func (c *countingSocket) SendCopy(frames []byte, limit int) bool { return c.Send(frames, limit) }
func (c *countingSocket) Ping() bool                             { return true }
func (c *countingSocket) LastRead() time.Time                    { return time.Now() }
func (c *countingSocket) Close(int, string)                      {}
func (c *countingSocket) Kill()                                  {}
func (c *countingSocket) Waiting() (int, bool)                   { return 0, false }

// serveNodes is the hidden subcommand of the child process: n nodes on one Redis or, with an empty addr, with a layer
// each and a full mesh of the backplane.
func serveNodes(addr, n string) error {
	count, err := strconv.Atoi(n)
	if err != nil {
		return fmt.Errorf("nodes: %w", err)
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var sockets []*countingSocket
	var hubs []*hub.Hub
	var servers []*httptest.Server
	var planes []atomic.Pointer[backplane.Backplane]
	if addr == "" {
		planes = make([]atomic.Pointer[backplane.Backplane], count)
	}
	heap := heapKiB()
	for i := range count {
		h := hub.New(quiet)
		hubs = append(hubs, h)
		var broker relay.Broker = memory.NewLayer().Broker()
		if addr != "" {
			s := redis.DefaultSettings()
			s.URLs, s.Capacity, s.Prefix = []string{"redis://" + addr + "/0"}, layerCapacity, layerPrefix
			if broker, err = redis.New(s, quiet); err != nil {
				return err
			}
		} else {
			servers = append(servers, httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if e, ok := backplane.Endpoint(r.URL.Path); ok && planes[i].Load() != nil {
					if status := planes[i].Load().Serve(w, r, e); status != 0 {
						http.Error(w, http.StatusText(status), status)
					}
					return
				}
				http.NotFound(w, r)
			})))
		}
		if err := h.SetBroker(ctx, broker); err != nil {
			return err
		}
	}
	for i := range planes {
		var others backplane.Static
		for j, s := range servers {
			if j != i {
				others = append(others, backplane.Target{URL: s.URL, Dialect: backplane.Auto})
			}
		}
		plane, err := backplane.New(hubs[i], backplane.Settings{
			Secrets: backplane.Secrets{"secret"}, Name: servers[i].Listener.Addr().String(), Discoveries: []backplane.Discovery{others},
			Retry: time.Second, JoinWait: 5 * time.Second,
		}, quiet)
		if err != nil {
			return err
		}
		planes[i].Store(plane)
		plane.Start()
	}
	connections := 0
	for settled := false; !settled; time.Sleep(50 * time.Millisecond) {
		settled, connections = true, 0
		for i := range planes {
			up := 0
			for _, p := range planes[i].Load().Peers() {
				if p.State == backplane.StateConnected {
					up++
				}
			}
			connections += up
			settled = settled && up >= count-1
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d nodes do not find each other", count)
		}
	}
	for _, h := range hubs {
		socket := &countingSocket{}
		sockets = append(sockets, socket)
		session := h.Open(socket, relay.Identity{ID: "1"}, netip.Addr{})
		if _, err := session.Subscribe(ctx, relay.Groups(benchGroup)); err != nil {
			return err
		}
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(nodeAnswer{Connections: connections / 2, HeapKiB: heapKiB() - heap}); err != nil {
		return err
	}
	src, total := newSource(), int64(0)
	src.resize(300)
	for in := json.NewDecoder(os.Stdin); ; {
		var o nodeOrder
		if err := in.Decode(&o); err != nil {
			return nil // the harness has closed its end
		}
		began := time.Now()
		for i := 0; o.Publish && i < o.Events; i++ {
			if o.Pace > 0 {
				time.Sleep(time.Until(began.Add(time.Duration(float64(i) / o.Pace * float64(time.Second)))))
			}
			if _, err := hubs[0].Publish(context.Background(), benchGroup, src.event()); err != nil {
				return err
			}
		}
		total += int64(o.Events)
		a := nodeAnswer{Error: allHave(sockets, total)}
		a.Seconds = time.Since(began).Seconds()
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// allHave waits until every socket has received n events in total; the error names a socket that has not.
func allHave(sockets []*countingSocket, n int64) string {
	for deadline := time.Now().Add(stall); ; time.Sleep(2 * time.Millisecond) {
		least, most := int64(1<<62), int64(0)
		for _, s := range sockets {
			least, most = min(least, s.frames.Load()), max(most, s.frames.Load())
		}
		switch {
		case most > n:
			return fmt.Sprintf("a node got %d events of %d", most, n)
		case least == n:
			return ""
		case time.Now().After(deadline):
			return fmt.Sprintf("a node has %d of %d events", least, n)
		}
	}
}

func heapKiB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc+m.StackInuse) / 1024
}

// nodeCurve measures 1 to 50 nodes on one Redis or in a mesh.
func nodeCurve(ctx context.Context, layer string, scale float64) (curve, error) {
	c := curve{
		Name: "nodes-" + layer, X: "nodes",
		Text:  "Relays in one process, without Caddy, with one client each, a socket that counts and drops. ",
		Title: "Nodes in a mesh of the backplane",
		Columns: []string{
			"connections", "KiB of heap a connection, both ends", "CPU µs an event, all nodes, paced",
			"each further node", "full speed: CPU µs an event, all nodes", "each further node",
		},
	}
	c.Text += "Every node has its own channel layer. The first publishes events of 300 B, 100/s and at full speed; " +
		"every other node has one client."
	if layer == "redis" {
		c.Title = "Nodes on one Redis"
		c.Columns = []string{
			"nodes: CPU µs an event and node, paced", "Redis: CPU µs an event",
			"Redis bytes in an event", "out", "full speed: CPU µs an event and node", "Redis",
		}
		c.Text = "Relays in one process, without Caddy, with one client each, a socket that counts and drops. All " +
			"are members of one group in one Redis; events of 300 B as channels_redis sends them, 100 a second and " +
			"in bursts."
	}
	for _, n := range []int{1, 2, 5, 10, 20, 50} {
		if layer == "mesh" && n == 1 {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		p := point{X: float64(n)}
		var err error
		if layer == "redis" {
			p.Values, err = nodesOnRedis(n, scale)
		} else {
			p.Values, err = nodesInMesh(n, scale)
		}
		if err != nil {
			return c, fmt.Errorf("%d nodes, %s: %w", n, layer, err)
		}
		c.Points = append(c.Points, p)
		fmt.Fprintf(os.Stderr, "%s: %d nodes: %.1f\n", c.Title, n, p.Values)
	}
	return c, nil
}

// nodeProcess is the child process that runs the nodes.
type nodeProcess struct {
	*process
	in  *json.Encoder
	out *json.Decoder
}

func startNodes(addr string, n int) (*nodeProcess, nodeAnswer, error) {
	p, err := startSelf("nodes", addr, strconv.Itoa(n))
	if err != nil {
		return nil, nodeAnswer{}, err
	}
	np := &nodeProcess{p, json.NewEncoder(p.stdin), json.NewDecoder(p.stdout)}
	var ready nodeAnswer
	if err := np.out.Decode(&ready); err != nil {
		p.stop()
		return nil, ready, fmt.Errorf("the nodes do not start: %w: %s", err, p.stderrTail())
	}
	return np, ready, nil
}

// ask sends o to the nodes and returns the CPU time that they used.
func (p *nodeProcess) ask(o nodeOrder) (time.Duration, error) {
	before, err := cpuClock(p.pid())
	if err != nil {
		return 0, err
	}
	if err := p.in.Encode(o); err != nil {
		return 0, err
	}
	return p.answer(before)
}

func (p *nodeProcess) answer(before time.Duration) (time.Duration, error) {
	var a nodeAnswer
	if err := p.out.Decode(&a); err != nil {
		return 0, fmt.Errorf("the nodes end: %w: %s", err, p.stderrTail())
	}
	if a.Error != "" {
		return 0, fmt.Errorf("%s", a.Error)
	}
	after, err := cpuClock(p.pid())
	return after - before, err
}

// The events of the rows with many nodes.
const (
	nodesPace  = 100.0
	nodesPaced = 400
	nodesFlat  = 20_000
)

func nodesInMesh(n int, scale float64) ([]float64, error) {
	p, ready, err := startNodes("", n)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	paced, flat := max(20, int(nodesPaced*scale)), max(100, int(nodesFlat*scale))/n*2
	slow, err := p.ask(nodeOrder{Events: paced, Publish: true, Pace: nodesPace})
	if err != nil {
		return nil, err
	}
	fast, err := p.ask(nodeOrder{Events: flat, Publish: true})
	if err != nil {
		return nil, err
	}
	perPaced, perFlat := slow.Seconds()*1e6/float64(paced), fast.Seconds()*1e6/float64(flat)
	return []float64{
		float64(ready.Connections), ready.HeapKiB / float64(ready.Connections), perPaced,
		perPaced / float64(n-1), perFlat, perFlat / float64(n-1),
	}, nil
}

func nodesOnRedis(n int, scale float64) ([]float64, error) {
	dir, err := os.MkdirTemp("", "edgerelay-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	server, err := startRedis(dir)
	if err != nil {
		return nil, err
	}
	defer server.stop()
	p, _, err := startNodes(server.addr, n)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	sender, err := newGroupSender(server.addr, benchGroup)
	if err != nil {
		return nil, err
	}
	defer sender.close()
	src := newSource()
	src.resize(300)
	paced, flat := max(20, int(nodesPaced*scale)), max(100, int(nodesFlat*scale)/n)
	emit := map[bool]func() error{
		false: func() error { return sender.burst(src, flat) },
		true: func() error {
			began := time.Now()
			for i := range paced {
				time.Sleep(time.Until(began.Add(time.Duration(float64(i) / nodesPace * float64(time.Second)))))
				if err := sender.one(src); err != nil {
					return err
				}
			}
			return nil
		},
	}
	var values []float64
	for _, slowly := range []bool{true, false} {
		events := map[bool]int{true: paced, false: flat}[slowly]
		before, err := cpuClock(p.pid())
		if err != nil {
			return nil, err
		}
		redisBefore, err := cpuClock(server.pid())
		if err != nil {
			return nil, err
		}
		first, err := server.traffic()
		if err != nil {
			return nil, err
		}
		if err := emit[slowly](); err != nil {
			return nil, err
		}
		if err := p.in.Encode(nodeOrder{Events: events}); err != nil {
			return nil, err
		}
		nodes, err := p.answer(before)
		if err != nil {
			return nil, err
		}
		redisAfter, err := cpuClock(server.pid())
		if err != nil {
			return nil, err
		}
		last, err := server.traffic()
		if err != nil {
			return nil, err
		}
		each := float64(events)
		values = append(values, nodes.Seconds()*1e6/each/float64(n), (redisAfter-redisBefore).Seconds()*1e6/each)
		if slowly {
			values = append(values, float64(last.in-first.in)/each, float64(last.out-first.out)/each)
		}
	}
	return values, nil
}
