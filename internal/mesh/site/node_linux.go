package site

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/redis/go-redis/v9"
)

// Node is a relay with a Redis and an emitter of its own.
type Node struct {
	// Name is a letter.
	Name string

	site    *Site
	place   atomic.Pointer[place]
	dir     string
	binary  string
	redisNS *wire.Namespace // that of Redis and the emitter
	// redisHost is the address of Redis for the relay.
	redisHost string
	relay     *process.Process
	emitter   *emitter
	// counted has the counters of runs of the relay that have ended.
	counted map[string]float64
	starts  int
}

// place is where a node is.
type place struct {
	ns   *wire.Namespace
	port string // at the switch
	host string // the address, in brackets if it is one of IPv6
}

// NS returns the node's namespace.
func (n *Node) NS() *wire.Namespace { return n.place.Load().ns }

// Port returns the name of the node's port at the switch.
func (n *Node) Port() string { return n.place.Load().port }

// Host returns the node's address, in brackets if it is one of IPv6.
func (n *Node) Host() string { return n.place.Load().host }

// URL returns http://host:port of the node.
func (n *Node) URL() string { return "http://" + n.Host() + ":80" }

// RedisPort is the port of a node's Redis at the switch, if [Options.RedisApart] is set.
func (n *Node) RedisPort() string { return n.Name + "-redis" }

// redisURL returns the URL of the node's Redis, for programs beside it or for the relay.
func (n *Node) redisURL(beside bool) string {
	host := n.redisHost
	if beside {
		host = "127.0.0.1"
	}
	return "redis://" + host + ":6379/0"
}

// logFile is the log of the current run of the relay.
func (n *Node) logFile() string {
	return filepath.Join(n.site.logs, fmt.Sprintf("%s-%d.log", n.Name, n.starts))
}

func (n *Node) startRedis() {
	t := n.site.t
	t.Helper()
	p := process.Start(t, "redis-server "+n.Name, n.redisNS.Command("redis-server", "--port", "6379", "--bind", "*", "-::*",
		"--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir", n.dir))
	client := redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:6379", MaxRetries: -1, DisableIdentity: true, Dialer: dialer(n.redisNS),
	})
	defer client.Close()
	p.Ready(t, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return client.Ping(ctx).Err()
	})
}

// Start starts the relay without waiting for it.
func (n *Node) Start() {
	t := n.site.t
	t.Helper()
	n.starts++
	file := filepath.Join(n.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(n.site.caddyfile(n)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := n.NS().Command(n.binary, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+n.dir, "XDG_DATA_HOME="+n.dir, "XDG_CONFIG_HOME="+n.dir)
	cmd.Dir = n.dir
	n.relay = process.Start(t, "relay "+n.Name, cmd)
	relay := n.relay
	t.Cleanup(func() {
		if log := relay.Log(); strings.Contains(log, "panic: ") || strings.Contains(log, "DATA RACE") {
			t.Errorf("%s: %s", relay.Name, log)
		}
	})
}

// AwaitReady waits until the relay answers.
func (n *Node) AwaitReady() {
	n.site.t.Helper()
	n.relay.Ready(n.site.t, func() error {
		if _, err := n.get("/config/"); err != nil {
			return err
		}
		conn, err := dialer(n.NS())(context.Background(), "tcp", n.Host()+":80")
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Kill ends the relay as a power failure does.
func (n *Node) Kill() {
	n.remember()
	n.relay.Kill()
}

// Stop ends the relay in order.
func (n *Node) Stop() {
	n.site.t.Helper()
	n.remember()
	if err := n.relay.Stop(n.site.t, 30*time.Second); err != nil {
		n.site.t.Errorf("relay %s: %v", n.Name, err)
	}
}

// dialer returns a function that dials from a namespace.
func dialer(ns *wire.Namespace) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = ns.Do(func() (err error) {
			conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// get requests a path of the node's admin API.
func (n *Node) get(path string) (string, error) {
	transport := &http.Transport{DialContext: dialer(n.NS()), DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: testkit.Scale(5 * time.Second)}
	resp, err := client.Get("http://127.0.0.1:2019" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return string(body), err
}

// Peer is a peer of a node, by the admin API.
type Peer struct {
	URL, Address, Name, State, Error string
	Source                           bool
	SameLayer                        bool    `json:"same_layer"`
	Lag                              float64 `json:"lag_seconds"`
	Queued                           int
}

// Peers returns the node's peers.
func (n *Node) Peers() ([]Peer, error) {
	body, err := n.get("/edgerelay/peers")
	if err != nil {
		return nil, err
	}
	var status struct{ Peers []Peer }
	return status.Peers, json.Unmarshal([]byte(body), &status)
}

// sources returns the number of peers that the node listens to.
func (n *Node) sources() (count int, err error) {
	list, err := n.Peers()
	for _, p := range list {
		if p.Source && p.State == "connected" {
			count++
		}
	}
	return count, err
}

// counters of the node that are compared with the losses, by their samples in /metrics.
const (
	droppedPrefix = "edgerelay_backplane_dropped_total{"
	lostPrefix    = "edgerelay_lost_events_total{"
)

// Counters returns the samples of the backplane's losses, summed over the node's runs.
func (n *Node) Counters() map[string]float64 {
	n.site.t.Helper()
	body, err := n.get("/metrics")
	if err != nil {
		n.site.t.Errorf("metrics of %s: %v", n.Name, err)
	}
	sum := map[string]float64{}
	for sample, value := range n.counted {
		sum[sample] = value
	}
	for line := range strings.SplitSeq(body, "\n") {
		if !strings.HasPrefix(line, droppedPrefix) && !strings.HasPrefix(line, lostPrefix) {
			continue
		}
		sample, value, _ := strings.Cut(line, "} ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			n.site.t.Errorf("%s: %v", line, err)
		}
		sum[sample+"}"] += v
	}
	return sum
}

// Counts reports whether the relay is of the version under test, which counts each loss.
func (n *Node) Counts() bool { return n.binary == n.site.options.Binaries[0] }

// remember keeps the counters of a run that is about to end.
func (n *Node) remember() { n.counted = n.Counters() }

// Connections returns the number of established TCP connections of the node with the port of relays, by the address of
// the other node.
func (n *Node) Connections() map[netip.Addr]int {
	n.site.t.Helper()
	out, err := n.NS().Command("ss", "-Htn", "state", "established",
		"( sport = :80 or sport = :443 or dport = :80 or dport = :443 )").Output()
	if err != nil {
		n.site.t.Errorf("ss: %v", err)
	}
	count := map[netip.Addr]int{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		other, err := netip.ParseAddrPort(fields[len(fields)-1])
		if err != nil {
			n.site.t.Errorf("ss wrote %q: %v", line, err)
		}
		// A server for both families has addresses of IPv4 as those of IPv6.
		if addr := other.Addr().Unmap(); addr != n.Addr() {
			count[addr]++
		}
	}
	return count
}

// Pause stops the relay's process and returns a function that continues it.
func (n *Node) Pause() (resume func()) {
	n.relay.Signal(syscall.SIGSTOP)
	return func() { n.relay.Signal(syscall.SIGCONT) }
}
