//go:build linux

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed million.Caddyfile
var millionCaddyfile string

const (
	// millionPing is the ping interval of the published figures that the run is compared with.
	millionPing = 25 * time.Second
	// millionDrainRate is the pace of the drain in clients a second.
	millionDrainRate = 10_000
	// millionDials is the number of connects in flight, of all crowd processes together.
	millionDials = 512
	// millionStall ends a wait without progress.
	millionStall = 60 * time.Second
)

// million is a run with very many idle clients.
type million struct {
	caddy  string
	dir    string
	nodes  []*millionNode
	crowds []*crowdProcess
	res    *millionResults
	base   millionMemory // with the nodes started and no client
}

// millionNode is a relay process.
type millionNode struct {
	*process
	addr, admin string
	clients     int
}

// crowdProcess is a process of clients.
type crowdProcess struct {
	*process
	in  *json.Encoder
	out *json.Decoder
}

// runMillion measures n connections, or as many as this machine has room for.
func runMillion(ctx context.Context, caddy, out string, n int) error {
	if !isFile(caddy) {
		return fmt.Errorf("no Caddy with edgerelay at %s: make build, or name one with -caddy", caddy)
	}
	room := millionRoom(n)
	m := &million{caddy: caddy, res: &millionResults{Wanted: n, Room: room}}
	var err error
	if m.dir, err = os.MkdirTemp("", "edgerelay-million-"); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(m.dir)
	defer m.stop()
	m.res.identify(moduleRoot())
	for _, step := range []func(context.Context) error{m.start, m.ramp, m.idle, m.event, m.scrape, m.drain} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	text := m.res.markdown()
	fmt.Print(text)
	if out == "" {
		out = filepath.Join(moduleRoot(), "bench", "results", m.res.Date+"-"+m.res.Commit+"-million")
	}
	return errors.Join(m.res.save(out, text), m.res.verdict())
}

// start starts the nodes and the crowds.
func (m *million) start(context.Context) error {
	r := m.res.Room
	for i := range r.Nodes {
		n, err := m.startNode(i, share(r.Connections, r.Nodes, i))
		if err != nil {
			return err
		}
		m.nodes = append(m.nodes, n)
	}
	for range r.Processes {
		p, err := startSelf("crowd")
		if err != nil {
			return err
		}
		m.crowds = append(m.crowds, &crowdProcess{p, json.NewEncoder(p.stdin), json.NewDecoder(p.stdout)})
	}
	for _, n := range m.nodes {
		if err := collectCaddy(n.admin); err != nil {
			return err
		}
	}
	var err error
	m.base, err = m.memory()
	m.res.Base = m.base
	return err
}

// share returns the size of the i-th of parts nearly equal parts of n.
func share(n, parts, i int) int { return n*(i+1)/parts - n*i/parts }

func (m *million) startNode(i, clients int) (*millionNode, error) {
	n := &millionNode{clients: clients}
	for _, a := range []*string{&n.addr, &n.admin} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		*a = fmt.Sprintf("127.0.0.1:%d", port)
	}
	dir := filepath.Join(m.dir, strconv.Itoa(i))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	conf := strings.NewReplacer("{{admin}}", n.admin, "{{addr}}", n.addr, "{{connections}}",
		strconv.Itoa(max(clients, 100_000)+1000), "{{ping}}", millionPing.String()).Replace(millionCaddyfile)
	file := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write the Caddyfile: %w", err)
	}
	cmd := exec.Command(m.caddy, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	var err error
	if n.process, err = start(cmd, false); err != nil {
		return nil, err
	}
	for _, a := range []string{n.addr, n.admin} {
		if err := n.ready(listening("tcp4", a)); err != nil {
			n.stop()
			return nil, err
		}
	}
	return n, nil
}

func (m *million) stop() {
	var wg sync.WaitGroup
	for _, c := range m.crowds {
		wg.Go(c.stop)
	}
	wg.Wait()
	for _, n := range m.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
}

func (m *million) nodePIDs() (pids []int) {
	for _, n := range m.nodes {
		pids = append(pids, n.pid())
	}
	return pids
}

func (m *million) crowdPIDs() (pids []int) {
	for _, c := range m.crowds {
		pids = append(pids, c.pid())
	}
	return pids
}

func (m *million) lastWords() string {
	for _, n := range m.nodes {
		if s := n.stderrTail(); s != "" {
			return "; last words of a node: " + lastLine(s)
		}
	}
	return ""
}

// ramp connects all clients.
func (m *million) ramp(context.Context) error {
	use, err := m.meter()
	if err != nil {
		return err
	}
	a, err := m.order(m.connectOrder)
	if err != nil {
		return err
	}
	if m.res.Ramp, err = use.read(); err != nil {
		return err
	}
	m.res.Open = a.Open
	if a.Open < m.res.Room.Connections {
		return fmt.Errorf("%d of %d clients are connected%s", a.Open, m.res.Room.Connections, m.lastWords())
	}
	m.res.Ramped, err = m.memory()
	return err
}

// connectOrder returns the nodes that the i-th crowd connects to. Crowds and nodes divide the same row of clients.
func (m *million) connectOrder(i int) crowdOrder {
	r := m.res.Room
	o := crowdOrder{Do: "connect", Parallel: max(1, millionDials/r.Processes), Source: i * sourcesPerCrowd(r)}
	from, to := r.Connections*i/r.Processes, r.Connections*(i+1)/r.Processes
	at := 0
	for _, n := range m.nodes {
		if first, last := max(at, from), min(at+n.clients, to); first < last {
			o.Targets = append(o.Targets, crowdTarget{n.addr, last - first})
		}
		at += n.clients
	}
	return o
}

// sourcesPerCrowd is the number of source addresses of a crowd.
func sourcesPerCrowd(r millionLimits) int { return r.Connections/r.Processes/clientsPerSource + 1 }

// idle lets the clients rest for two ping intervals, after one in which the ramp settles.
func (m *million) idle(ctx context.Context) error {
	if err := sleep(ctx, millionPing+millionPing/4); err != nil {
		return err
	}
	if _, err := m.order(func(int) crowdOrder { return crowdOrder{Do: "idle"} }); err != nil {
		return err
	}
	use, err := m.meter()
	if err != nil {
		return err
	}
	if err := sleep(ctx, 2*millionPing); err != nil {
		return err
	}
	if m.res.Idle, err = use.read(); err != nil {
		return err
	}
	a, err := m.order(func(int) crowdOrder { return crowdOrder{Do: "state"} })
	if err != nil {
		return err
	}
	m.res.Pings, m.res.FewestPings, m.res.Lump, m.res.Open = a.Pings, a.Fewest, a.Lump, a.Open
	if m.res.Rested, err = m.memory(); err != nil {
		return err
	}
	for _, n := range m.nodes {
		if err := errors.Join(collectCaddy(n.admin), collectCaddy(n.admin)); err != nil {
			return err
		}
	}
	if err := sleep(ctx, 10*time.Second); err != nil { // Go returns pages gradually
		return err
	}
	m.res.Collected, err = m.memory()
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// event publishes one event to all clients.
func (m *million) event(context.Context) error {
	src := newSource()
	src.resize(300)
	event := src.event()
	use, err := m.meter()
	if err != nil {
		return err
	}
	began := time.Now()
	var wg sync.WaitGroup
	failed := make([]error, len(m.nodes))
	for i, n := range m.nodes {
		wg.Go(func() {
			body := awxMessage.publishBody(benchGroup)(event)
			failed[i] = postJSON("http://"+n.admin+"/edgerelay/publish", body)
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	a, err := m.order(func(int) crowdOrder { return crowdOrder{Do: "event"} })
	if err != nil {
		return err
	}
	if m.res.Event, err = use.read(); err != nil {
		return err
	}
	m.res.Events, m.res.Doubled = a.Events, a.Doubled
	m.res.LastEvent = time.UnixMicro(a.Last).Sub(began).Seconds()
	m.res.MedianEvent = a.Latency.quantile(0.5).Seconds()
	return nil
}

func postJSON(url string, body []byte) error {
	resp, err := http.Post(url, "application/json", strings.NewReader(string(body)))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("publish: %s", resp.Status)
	}
	return nil
}

// scrape reads the metrics of the nodes, one after the other.
func (m *million) scrape(context.Context) error {
	began := time.Now()
	for _, n := range m.nodes {
		resp, err := http.Get("http://" + n.admin + "/metrics")
		if err != nil {
			return fmt.Errorf("read metrics: %w", err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return fmt.Errorf("read metrics: %w", err)
		}
	}
	m.res.Scrape = time.Since(began).Seconds()
	return nil
}

// drain drains the nodes one after the other with the command of the CLI.
func (m *million) drain(ctx context.Context) error {
	use, err := m.meter()
	if err != nil {
		return err
	}
	for _, n := range m.nodes {
		cmd := exec.CommandContext(ctx, m.caddy, "edgerelay", "drain", "--address", n.admin, "--rate",
			strconv.Itoa(millionDrainRate), "--wait")
		cmd.Env = append(os.Environ(), "HOME="+m.dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("drain: %w: %s", err, lastLine(strings.TrimSpace(string(out))))
		}
	}
	a, err := m.order(func(int) crowdOrder { return crowdOrder{Do: "gone"} })
	if err != nil {
		return err
	}
	m.res.Closed = a.Closed
	m.res.Drain, err = use.read()
	return err
}
