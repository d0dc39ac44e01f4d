//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// benchGroup is the group that every client of every system joins.
const benchGroup = "jobs-status_changed"

// system fans events out; it starts afresh for every session.
type system struct {
	name  string
	title string // for tables
	start func(ctx context.Context, s setup) (*running, error)
	// burstDeliveries is the approximate number of deliveries of a burst row, a few seconds' work.
	burstDeliveries int
	// filesPerClient is the number of files per client in the system's fullest process.
	filesPerClient float64
	slow           bool // rows of minutes are skipped, with a note
	redis          bool
}

// setup is the session's request to a system.
type setup struct {
	dir     string // the system's own, for its files
	clients int
	tls     bool
	caddy   string // path of the custom Caddy
	cert    certificate
	auth    string   // of edgerelay, "" for none
	env     []string // of edgerelay, besides this process's own
	cpus    int      // that edgerelay is bound to, 0: all
	plugin  *pluginCase
	history *historyCase
	route   *routeCase
	front   *frontCase
	deflate *deflateCase
}

// running is a started system.
type running struct {
	target target
	emit   emitter
	// emitTo returns an emitter to another group; nil where there is none.
	emitTo func(group string) (emitter, error)
	redis  *redisServer // nil without
	pids   func() []int // all server processes
	gc     func() error // nil where the server offers none
	admin  string       // address of Caddy's admin API, "" without
	procs  []*process   // their logs matter after a fault
	server *process     // Caddy, nil without
	again  func() error // starts Caddy again after its end, nil without
	held   []*process   // stopped by SIGSTOP while a key is filled, nil without Redis
	stops  []func()     // run last to first
	// subscribed returns the server's number of clients, where the server reports one.
	subscribed func() (int, error)
}

func (r *running) stop() {
	if r.emit != nil {
		r.emit.close()
	}
	for i := len(r.stops) - 1; i >= 0; i-- {
		r.stops[i]()
	}
}

// lastWords is the end of the servers' logs, "" if all are healthy.
func (r *running) lastWords(dir string) string {
	var words []string
	for _, p := range r.procs {
		words = append(words, lastLine(p.stderrTail()))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "nginx-error.log")); err == nil {
		words = append(words, lastLine(strings.TrimSpace(string(b))))
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	if len(words) == 0 {
		return ""
	}
	return strings.ReplaceAll("; last words: "+strings.Join(words, " / "), dir+"/", "")
}

func lastLine(s string) string {
	line := s[strings.LastIndexByte(s, '\n')+1:]
	return line[:min(len(line), 300)]
}

// systems returns all systems, the bare loop first.
func systems() []*system {
	return []*system{
		{name: "bare", title: "bare Go loop", start: startBare, burstDeliveries: 1_000_000, filesPerClient: 1},
		{
			name: "edgerelay", title: "**edgerelay**, memory", start: startEdgerelayMemory, burstDeliveries: 5_000_000,
			filesPerClient: 1,
		},
		{
			name: "edgerelay-redis", title: "**edgerelay**, Redis", start: startEdgerelayRedis, burstDeliveries: 5_000_000,
			filesPerClient: 1, redis: true,
		},
		{name: "nchan", title: "nginx + nchan", start: startNchan, burstDeliveries: 1_000_000, filesPerClient: 1},
		{
			name: "daphne", title: "nginx + Daphne + channels_redis", start: startDaphne, burstDeliveries: 20_000,
			filesPerClient: max(1, 2/float64(cores())), slow: true, redis: true,
		},
	}
}

func startBare(_ context.Context, s setup) (*running, error) {
	args := []string{"bare"}
	if s.tls {
		args = append(args, s.cert.certFile, s.cert.keyFile)
	}
	p, err := startSelf(args...)
	if err != nil {
		return nil, err
	}
	run := &running{stops: []func(){p.stop}, procs: []*process{p}, pids: func() []int { return []int{p.pid()} }}
	var at bareAddresses
	if err := json.NewDecoder(p.stdout).Decode(&at); err != nil {
		run.stop()
		return nil, fmt.Errorf("the bare loop does not start: %w: %s", err, p.stderrTail())
	}
	e, err := newLineEmitter(at.Events)
	if err != nil {
		run.stop()
		return nil, err
	}
	run.emit = e
	run.target = target{Addr: at.Clients, Path: "/websocket/", Group: benchGroup, Dialect: dialectAWX, TLS: s.tls}
	run.gc = func() error { return collectBare(e.conn) }
	return run, nil
}

// collectBare runs a garbage collection in the bare loop.
func collectBare(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Write([]byte("GC\n")); err != nil {
		return fmt.Errorf("ask for a collection: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "OK\n" {
		err = errors.New("odd answer " + line)
	}
	if err != nil {
		return fmt.Errorf("wait for a collection: %w", err)
	}
	return nil
}
