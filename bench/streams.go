//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The mode h2 compares WebSockets over HTTP/2 with a bare handler of extended CONNECT, in the same binary and in turn.
const (
	streamConnections = 100
	streamsEach       = 10
	streamTurns       = 3
	streamBlocks      = 20 // of each kind, in turn
	streamEvents      = 10 // of a block, one at a time
	streamBurst       = 20 // events
	streamEventSize   = 300
)

// streamSystem is a server under comparison.
type streamSystem struct {
	name      string
	directive string
	answers   bool // a client's message
}

// streamMessage is what each client sends. A bare handler reads it, too: Go keeps a buffer of 1 KiB for a stream that
// has got bytes.
var streamMessage = `{"groups": {"bench": ["h2"]}, "xrftoken": "t", "pad": "` + strings.Repeat("p", 80) + `"}`

var streamSystems = []streamSystem{
	{name: "a bare handler", directive: "bare_stream"},
	{name: "edgerelay", directive: "edgerelay", answers: true},
}

// streamResult is a system's figures, one of each turn.
type streamResult struct {
	idle, after          []float64 // KiB resident for each stream: open, and after events
	perMessage, perBurst []float64 // µs of CPU time
}

const streamCaddyfile = `{
	admin %s
	persist_config off
	auto_https disable_redirects
	log {
		level WARN
	}
	servers {
		protocols h1 h2
	}
	edgerelay {
		channel_layer memory
		auth none
		limits {
			connections 100000
			connections_per_address 100000
			connections_per_user 100000
			ping 1h
			silence 3h
		}
	}
}
https://%s {
	tls %s %s
	%s
}
http://%s {
	bare_stream
}
`

// runStreams measures the systems in turn and prints a table. bare is the binary of caddymodule/cmd/barestream.
func runStreams(ctx context.Context, w io.Writer, bare string) error {
	dir, err := os.MkdirTemp("", "edgerelay-h2-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if bare == "" {
		bare = filepath.Join(dir, "caddy")
		build := exec.CommandContext(ctx, "go", "build", "-tags=nobadger,nomysql,nopgx", "-o", bare,
			"./caddymodule/cmd/barestream")
		build.Dir = moduleRoot()
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build barestream: %w\n%s", err, out)
		}
	}
	cert, err := newCertificate(dir)
	if err != nil {
		return err
	}
	results := make([]streamResult, len(streamSystems))
	for range streamTurns {
		if err := streamTurn(ctx, dir, bare, cert, results); err != nil {
			return err
		}
	}
	printStreams(w, results)
	return nil
}

// streamTurn measures all systems. They run at the same time and get events in turn, so that whatever else this machine
// does disturbs them alike.
func streamTurn(ctx context.Context, dir, bare string, cert certificate, results []streamResult) error {
	runs := make([]*streamRun, len(streamSystems))
	for i := range streamSystems {
		t := &streamRun{ctx: ctx, system: &streamSystems[i], result: &results[i]}
		defer t.stop()
		if err := t.start(dir, bare, cert); err != nil {
			return fmt.Errorf("%s: %w", t.system.name, err)
		}
		runs[i] = t
	}
	each := func(f func(*streamRun) error) error {
		for _, t := range runs {
			if err := errors.Join(ctx.Err(), f(t)); err != nil {
				return fmt.Errorf("%s: %w", t.system.name, err)
			}
		}
		return nil
	}
	steps := []func(*streamRun) error{(*streamRun).open}
	for range streamBlocks {
		steps = append(steps, func(t *streamRun) error { return t.fanOut(&t.single, streamEvents, 1) })
	}
	steps = append(steps, (*streamRun).measureAgain)
	for range streamBlocks {
		steps = append(steps, func(t *streamRun) error { return t.fanOut(&t.burst, 1, streamBurst) })
	}
	for _, step := range append(steps, (*streamRun).report) {
		if err := each(step); err != nil {
			return err
		}
	}
	return nil
}

// streamRun is a turn of a system.
type streamRun struct {
	ctx           context.Context
	system        *streamSystem
	result        *streamResult
	server        *process
	admin, events string
	fleet         streamFleet
	base          int64         // resident without clients
	single, burst time.Duration // CPU time of all blocks
}

// start starts the server.
func (t *streamRun) start(dir, bare string, cert certificate) (err error) {
	var addrs [3]string // admin, clients, events of the bare handler
	for i := range addrs {
		port, err := freePort()
		if err != nil {
			return err
		}
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	file := filepath.Join(dir, "Caddyfile")
	conf := fmt.Sprintf(streamCaddyfile, addrs[0], addrs[1], cert.certFile, cert.keyFile, t.system.directive, addrs[2])
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return fmt.Errorf("write the Caddyfile: %w", err)
	}
	cmd := exec.Command(bare, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "GODEBUG=http2xconnect=1", "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir, "HOME="+dir)
	if t.server, err = start(cmd, false); err != nil {
		return err
	}
	for _, addr := range addrs {
		if err := t.server.ready(listening("tcp4", addr)); err != nil {
			return err
		}
	}
	t.admin, t.events = addrs[0], addrs[2]
	t.fleet.addr, t.fleet.answers = addrs[1], t.system.answers
	return nil
}

func (t *streamRun) stop() {
	t.fleet.close()
	if t.server != nil {
		t.server.stop()
	}
}

// open opens the clients, and measures their memory.
func (t *streamRun) open() error {
	if err := errors.Join(t.warmUp(), t.collect()); err != nil {
		return err
	}
	var err error
	if t.base, err = rssOf([]int{t.server.pid()}); err != nil {
		return err
	}
	if err := t.fleet.open(streamConnections, streamsEach); err != nil {
		return err
	}
	return t.memory(&t.result.idle)
}

// measureAgain measures the memory of clients that have got events.
func (t *streamRun) measureAgain() error { return t.memory(&t.result.after) }

// report stores the CPU time of a message.
func (t *streamRun) report() error {
	per := func(d time.Duration, events int) float64 {
		return float64(d.Nanoseconds()) / 1000 / float64(events*streamBlocks*streamConnections*streamsEach)
	}
	t.result.perMessage = append(t.result.perMessage, per(t.single, streamEvents))
	t.result.perBurst = append(t.result.perBurst, per(t.burst, streamBurst))
	return nil
}

// warmUp opens and closes some clients, so that what a process needs once is not counted.
func (t *streamRun) warmUp() error {
	f := streamFleet{addr: t.fleet.addr, answers: t.fleet.answers}
	defer f.close()
	return f.open(2, streamsEach)
}

// collect collects garbage, and waits until the freed memory has left the process, since Go returns pages gradually.
func (t *streamRun) collect() error {
	least, calm := int64(math.MaxInt64), 0
	for range 20 {
		if err := errors.Join(collectCaddy(t.admin), sleep(t.ctx, time.Second)); err != nil {
			return err
		}
		now, err := rssOf([]int{t.server.pid()})
		if err != nil {
			return err
		}
		if calm++; now < least-least/200 {
			least, calm = now, 0
		}
		if calm == 3 {
			break
		}
	}
	return nil
}

// memory adds the resident memory of a stream in KiB to a list.
func (t *streamRun) memory(list *[]float64) error {
	if err := t.collect(); err != nil {
		return err
	}
	now, err := rssOf([]int{t.server.pid()})
	*list = append(*list, float64(now-t.base)/1024/(streamConnections*streamsEach))
	return err
}

// fanOut publishes rounds of events, each when all clients have the round before, and adds the CPU time of the server.
func (t *streamRun) fanOut(spent *time.Duration, rounds, events int) error {
	text := `"` + strings.Repeat("e", streamEventSize-2) + `"`
	frame := int64(len(text) + 4)
	began, err := cpuOf([]int{t.server.pid()})
	if err != nil {
		return err
	}
	want := t.fleet.bytes.Load()
	for range rounds {
		for range events {
			if err := t.publish(text); err != nil {
				return err
			}
		}
		want += frame * int64(events) * streamConnections * streamsEach
		if err := t.fleet.await("events", func() bool { return t.fleet.bytes.Load() >= want }); err != nil {
			return err
		}
	}
	if got := t.fleet.bytes.Load(); got != want {
		return fmt.Errorf("%d bytes more than the events have", got-want)
	}
	ended, err := cpuOf([]int{t.server.pid()})
	*spent += ended - began
	return err
}

// publish sends an event to all clients.
func (t *streamRun) publish(text string) error {
	url, body := "http://"+t.events+"/", text
	if t.system.answers {
		url, body = "http://"+t.admin+"/edgerelay/publish", `{"group": "bench-h2", "data": `+text+`}`
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("publish: %s", resp.Status)
	}
	return nil
}

// printStreams prints the medians, and the goals.
func printStreams(w io.Writer, results []streamResult) {
	fmt.Fprintf(w, "%d streams on %d connections under TLS, events of %d bytes; medians of %d turns\n\n",
		streamConnections*streamsEach, streamConnections, streamEventSize, streamTurns)
	fmt.Fprintln(w, "| WebSockets over HTTP/2 | KiB a stream, idle | after events | CPU µs a message, one at a time "+
		"| in bursts |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|")
	for i, r := range results {
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %.1f | %.1f |\n", streamSystems[i].name, median(r.idle), median(r.after),
			median(r.perMessage), median(r.perBurst))
	}
	bare, ours := results[0], results[1]
	fmt.Fprintf(w, "\nedgerelay against the bare handler: %+.1f KiB idle, %+.1f KiB after events (goal: at most +3), "+
		"%.2f × the CPU of a message, %.2f × in bursts (goal: at most 1.1)\n",
		median(ours.idle)-median(bare.idle), median(ours.after)-median(bare.after),
		median(ours.perMessage)/median(bare.perMessage), median(ours.perBurst)/median(bare.perBurst))
}
