//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The mode functions measures edge functions: the memory of their idle connections beside those of other routes, and
// their echoes beside those of a handler in Go and of a consumer under Daphne, in turns.
const (
	functionClients  = 40
	functionInterval = 100 * time.Millisecond // between a client's messages
	functionTime     = 4 * time.Second
	functionTurns    = 3
)

//go:embed testdata/echo.wasm
var echoWasm []byte

//go:embed testdata/goecho/main.go
var goEcho []byte

const functionsCaddyfile = `{
	admin %s
	persist_config off
	log {
		level WARN
	}
	edgerelay {
		channel_layer memory
		auth none
		limits {
			connections 100000
			connections_per_address 100000
			connections_per_user 0
			subscribe_rate 0
			ping 1h
			silence 3h
		}
		plugin echo %s
		plugin goecho %s
	}
}
http://%s {
	edgerelay {
		route /ws/plain/ {
			groups bench
		}
		route /ws/echo/ {
			function echo
		}
		route /ws/go/ {
			function goecho
		}
		route /ws/site/ {
			messages backend http://%s
		}
	}
}
`

// functionCase is a server that echoes.
type functionCase struct {
	name, path string
	text       string // of the messages
	addr       string
	procs      []*process
	took       []time.Duration
	cpu        time.Duration
}

// runFunctions measures all, and prints two tables. idle is the number of idle connections.
func runFunctions(ctx context.Context, w io.Writer, caddy string, idle int) error {
	dir, err := os.MkdirTemp("", "edgerelay-functions-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	wasm := filepath.Join(dir, "echo.wasm")
	if err := os.WriteFile(wasm, echoWasm, 0o600); err != nil {
		return err
	}
	goWasm, err := buildGoEcho(ctx, dir)
	if err != nil {
		return err
	}
	f := &functionsBench{report: w, dir: dir, caddy: caddy, wasm: wasm, goWasm: goWasm}
	if err := f.echoes(ctx); err != nil {
		return err
	}
	if idle > 0 {
		return f.idle(ctx, idle)
	}
	return nil
}

// functionsBench is a run of the mode functions.
type functionsBench struct {
	report                   io.Writer // of the tables
	dir, caddy, wasm, goWasm string
}

// buildGoEcho compiles the function in Go with the SDK of this repository.
func buildGoEcho(ctx context.Context, dir string) (string, error) {
	module := filepath.Join(dir, "goecho")
	mod := fmt.Sprintf("module goecho\n\ngo 1.24\n\nrequire github.com/edgerelay/edgerelay/sdk/go v0.0.0\n\n"+
		"replace github.com/edgerelay/edgerelay/sdk/go => %s\n", filepath.Join(moduleRoot(), "sdk", "go"))
	if err := errors.Join(os.Mkdir(module, 0o700),
		os.WriteFile(filepath.Join(module, "go.mod"), []byte(mod), 0o600),
		os.WriteFile(filepath.Join(module, "main.go"), goEcho, 0o600)); err != nil {
		return "", err
	}
	out := filepath.Join(dir, "goecho.wasm")
	build := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, ".")
	build.Dir, build.Env = module, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the function in Go: %w\n%s", err, text)
	}
	return out, nil
}

// startCaddy starts the relay. Its site answers the route with a backend at the address site.
func (f *functionsBench) startCaddy(site string) (addr, admin string, p *process, err error) {
	var ports [2]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return "", "", nil, err
		}
	}
	addr, admin = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	home, err := os.MkdirTemp(f.dir, "home-")
	if err != nil {
		return "", "", nil, err
	}
	file := filepath.Join(home, "Caddyfile")
	config := fmt.Sprintf(functionsCaddyfile, admin, f.wasm, f.goWasm, addr, site)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return "", "", nil, err
	}
	cmd := exec.Command(f.caddy, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	_, procs, err := startEchoProcess(addr, nil, cmd)
	if len(procs) > 0 {
		p = procs[0]
	}
	return addr, admin, p, err
}

// echoes measures echoes at the same pace, in turns.
func (f *functionsBench) echoes(ctx context.Context) error {
	relay, _, caddy, err := f.startCaddy("127.0.0.1:9")
	if caddy != nil {
		defer caddy.stop()
	}
	if err != nil {
		return err
	}
	native, nativeProcs, err := startNativeEcho()
	for _, p := range nativeProcs {
		defer p.stop()
	}
	if err != nil {
		return err
	}
	x, y := strings.Repeat("x", 100), strings.Repeat("y", 100)
	cases := []*functionCase{
		{name: "a handler in Go with coder/websocket", path: "/ws/", text: x, addr: native, procs: nativeProcs},
		{name: "a function in WebAssembly text", path: "/ws/echo/", text: x, addr: relay, procs: []*process{caddy}},
		{name: "a function in Go", path: "/ws/go/", text: x, addr: relay, procs: []*process{caddy}},
		{name: "an auto-response", path: "/ws/echo/", text: y, addr: relay, procs: []*process{caddy}},
	}
	daphne, daphneProcs, err := startEchoDaphne(f.dir, "", "")
	for _, p := range daphneProcs {
		defer p.stop()
	}
	if err != nil {
		return err
	}
	cases = append(cases, &functionCase{
		name: "Daphne, a Channels consumer", path: "/ws/", text: x, addr: daphne, procs: daphneProcs,
	})
	for turn := range functionTurns {
		for i := range cases {
			if err := ctx.Err(); err != nil {
				return err
			}
			c := cases[(i+turn)%len(cases)] // another first one in each turn
			if err := c.turn(); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	fmt.Fprintf(f.report, "%d clients, each with a message of 100 bytes every %v, %d turns of %v\n\n", functionClients,
		functionInterval, functionTurns, functionTime)
	fmt.Fprintln(f.report, "| echo by | p50 | p99 | CPU per message | × the handler in Go |")
	fmt.Fprintln(f.report, "|---|--:|--:|--:|--:|")
	each := func(c *functionCase) float64 { return float64(c.cpu) / float64(max(1, len(c.took))) }
	for _, c := range cases {
		slices.Sort(c.took)
		fmt.Fprintf(f.report, "| %s | %v | %v | %v | %.2f |\n", c.name, c.took[len(c.took)/2].Round(time.Microsecond),
			c.took[len(c.took)*99/100].Round(time.Microsecond), time.Duration(each(c)).Round(100*time.Nanosecond),
			each(c)/each(cases[0]))
	}
	fmt.Fprintln(f.report)
	return nil
}

// turn measures a server once.
func (c *functionCase) turn() error {
	clients := make([]*echoClient, functionClients)
	for i := range clients {
		var err error
		if clients[i], err = dialEcho(c.addr, c.path); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	if _, err := c.paced(clients, time.Second); err != nil { // warm
		return err
	}
	pids := []int{}
	for _, p := range c.procs {
		pids = append(pids, p.pid())
	}
	before, err := cpuOf(withChildren(pids...))
	if err != nil {
		return err
	}
	took, err := c.paced(clients, functionTime)
	if err != nil {
		return err
	}
	after, err := cpuOf(withChildren(pids...))
	c.took, c.cpu = append(c.took, took...), c.cpu+after-before
	return err
}

// paced has all clients echo at a pace for a time, and returns the time of each echo.
func (c *functionCase) paced(clients []*echoClient, limit time.Duration) (took []time.Duration, failed error) {
	frame := append([]byte{0x81, 0x80 | byte(len(c.text)), 0, 0, 0, 0}, c.text...)
	var mu sync.Mutex
	var all sync.WaitGroup
	begin := time.Now()
	for i, client := range clients {
		all.Go(func() {
			var own []time.Duration
			var err error
			due := begin.Add(functionInterval * time.Duration(i) / time.Duration(len(clients)))
			for ; err == nil && due.Sub(begin) < limit; due = due.Add(functionInterval) {
				time.Sleep(time.Until(due))
				sent := time.Now()
				err = client.echo(frame)
				own = append(own, time.Since(sent))
			}
			mu.Lock()
			defer mu.Unlock()
			took, failed = append(took, own...), errors.Join(failed, err)
		})
	}
	all.Wait()
	return took, failed
}

// idle measures idle connections of routes, each with a relay of its own.
func (f *functionsBench) idle(ctx context.Context, n int) error {
	site := &http.Server{Handler: http.HandlerFunc(openBackend)}
	ln, err := listenLocal()
	if err != nil {
		return err
	}
	defer site.Close()
	go func() { _ = site.Serve(ln) }()
	fmt.Fprintf(f.report, "%d idle connections, after a collection\n\n"+
		"| route | KiB a connection | more than plain |\n|---|--:|--:|\n", n)
	plain := 0.0
	for _, c := range []struct{ name, path string }{
		{"plain, one group", "/ws/plain/"}, {"function", "/ws/echo/"}, {"backend", "/ws/site/"},
	} {
		kib, err := f.idleRoute(ctx, ln.Addr().String(), c.path, n)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if plain == 0 {
			plain = kib
		}
		fmt.Fprintf(f.report, "| %s | %.2f | %+.2f |\n", c.name, kib, kib-plain)
	}
	return nil
}

// idleRoute returns the resident KiB of an idle connection of a route.
func (f *functionsBench) idleRoute(ctx context.Context, site, path string, n int) (float64, error) {
	addr, admin, p, err := f.startCaddy(site)
	if p != nil {
		defer p.stop()
	}
	if err != nil {
		return 0, err
	}
	var clients []*echoClient
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	open := func(n int) error {
		for range n {
			c, err := dialEcho(addr, path)
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			c.r = nil // this process has them all
			clients = append(clients, c)
		}
		return nil
	}
	resident := func() (int64, error) {
		if err := errors.Join(collectCaddy(admin), collectCaddy(admin)); err != nil {
			return 0, err
		}
		return rssOf([]int{p.pid()})
	}
	// The first ones take what the start has left behind. With the others, they stay below 20,000 files.
	if err := open(n * 9 / 10); err != nil {
		return 0, err
	}
	before, err := resident()
	if err != nil {
		return 0, err
	}
	if err := open(n); err != nil {
		return 0, err
	}
	after, err := resident()
	return float64(after-before) / float64(n) / 1024, err
}

// openBackend is a site that accepts each WebSocket.
func openBackend(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/websocket-events")
	_, _ = w.Write([]byte("OPEN\r\n"))
}
