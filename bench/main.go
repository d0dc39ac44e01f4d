//go:build linux

// Command bench measures the cost of fanning events out to many WebSockets. edgerelay, its peers in Debian and a bare
// write loop take turns in one run on one machine. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const usage = `usage: go -C bench run . [flags] <mode>

  full    every row and every peer (30 minutes)
  short   the bare loop and edgerelay at 1,000 and 5,000 clients, idle memory at 10,000 (2 minutes)
  ci      bursts to 1,000 clients; fails when edgerelay loses or doubles events or becomes expensive (20 seconds)
  slow    latency of 5,000 clients, 50 of which read slowly
  history the cost of a history, off and on, and of 10,000 clients that come back (6 minutes)
  sse     the cost of event streams beside WebSockets (4 minutes)
  routes  the cost of routes beside AWX's protocol (4 minutes)
  deflate bytes on the wire of AWX's job events, and the cost of compression (2 minutes)
  fronts  the cost of TLS, the PROXY protocol and other things in front of a site (4 minutes)
  plugins CPU of an event through plugins, and the longest wait of other groups beside a greedy one (1 minute)
  storm   10,000 clients connect at once, then all change their groups
  echo    echoes by a consumer under Daphne, and by django-grip behind the relay (1 minute)
  functions echoes by edge functions, beside a handler in Go and Daphne, and their idle memory (2 minutes)
  h2      WebSockets over HTTP/2 beside a bare handler: memory and CPU (3 minutes)
  million a million idle clients, or as many as fit: memory, CPU, one event to all, a drain
  restart 10,000 TLS clients return after a restart and after a crash, and resume (2 minutes)
  cores   cost and rate on 1, 2, 4 … cores (a minute for each)
  growth  cost by clients, groups, event rate and nodes (6 minutes)

`

func dispatch(args []string) error {
	if len(args) > 0 {
		switch args[0] { // child processes of this program
		case "receive":
			return receive()
		case "crowd":
			return crowdMain()
		case "bare":
			if len(args) == 3 {
				return serveBare(args[1], args[2])
			}
			return serveBare("", "")
		case "nativeecho":
			if len(args) == 2 {
				return serveNativeEcho(args[1])
			}
		case "nodes":
			if len(args) == 3 {
				return serveNodes(args[1], args[2])
			}
		}
	}
	return harness(args)
}

func harness(args []string) error {
	root := moduleRoot()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage); flags.PrintDefaults() }
	caddy := flags.String("caddy", filepath.Join(root, "bin", "caddy"), "the Caddy binary with edgerelay")
	out := flags.String("out", "", "directory of the results (default bench/results/<date>-<commit>; ci writes none "+
		"by default)")
	only := flags.String("systems", "", "comma-separated: bare, edgerelay, edgerelay-redis, nchan, daphne")
	clients := flags.String("clients", "", "comma-separated numbers of clients in the fan-out rows; 0: no such rows")
	reps := flags.Int("reps", 0, "repetitions of each row")
	idle := flags.Int("idle", -1, "connections in the idle-memory rows; 0: no such rows")
	drain := flags.Bool("drain", false, "also measure the drain of a filled channel key")
	scale := flags.Float64("scale", 1, "shortens growth: 0.5 halves its rows")
	serverEnv := flags.String("env", "", "comma-separated environment of edgerelay's process, such as GOGC=50")
	profiles := flags.String("profiles", "", "directory for CPU profiles, one per row of edgerelay")
	returning := flags.Int("returning", 10_000, "number of clients of restart")
	before := flags.String("before", "", "an older Caddy binary, for restart")
	connections := flags.Int("connections", 1_000_000, "number of clients of million")
	bareStream := flags.String("barestream", "", "the binary of caddymodule/cmd/barestream, for h2 (default: built)")
	packages := flags.String("packages", "", "folder with django-grip, for echo: bin/compat/grip")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if mode := map[string]func(io.Writer) error{
		"echo": func(w io.Writer) error { return echo(ctx, w, *caddy, *packages) },
		"functions": func(w io.Writer) error {
			if *idle < 0 {
				*idle = 10_000
			}
			return runFunctions(ctx, w, *caddy, *idle)
		},
		"h2": func(w io.Writer) error { return runStreams(ctx, w, *bareStream) },
	}[flags.Arg(0)]; mode != nil && flags.NArg() == 1 {
		return writeTables(flags.Arg(0), *out, mode)
	}
	if flags.Arg(0) == "million" && flags.NArg() == 1 {
		return runMillion(ctx, *caddy, *out, *connections)
	}
	if flags.Arg(0) == "restart" && flags.NArg() == 1 {
		return runRestarts(ctx, *caddy, *before, *out, *returning, *reps)
	}
	p := plans()[flags.Arg(0)]
	if flags.Arg(0) == "growth" || flags.Arg(0) == "cores" {
		p = &plan{reps: 1, systems: []string{"edgerelay-redis"}}
	}
	if p == nil || flags.NArg() != 1 {
		flags.Usage()
		return errors.New("one mode is required, after the flags")
	}
	p.mode = flags.Arg(0)
	if *serverEnv != "" {
		p.env = strings.Split(*serverEnv, ",")
	}
	if *only != "" {
		p.systems = strings.Split(*only, ",")
	}
	if *clients != "" {
		p.clients = nil
		for f := range strings.SplitSeq(*clients, ",") {
			n, err := strconv.Atoi(f)
			if err != nil || n < 0 || n == 1 {
				return fmt.Errorf("-clients %s: want numbers above 1", *clients)
			}
			if n > 0 {
				p.clients = append(p.clients, n)
			}
		}
	}
	if *reps > 0 {
		p.reps = *reps
	}
	if *idle >= 0 {
		p.idleAt = *idle
	}
	p.drain = p.drain || *drain
	if p.profiles = *profiles; p.profiles != "" {
		if err := os.MkdirAll(p.profiles, 0o755); err != nil {
			return fmt.Errorf("make the profiles' directory: %w", err)
		}
	}
	var res *results
	var err, failed error
	if several := map[string]func(context.Context, *results, string, float64) error{
		"growth": growth, "cores": coresCurve,
	}[p.mode]; several != nil { // plans in sequence
		res = &results{Mode: p.mode, Date: time.Now().Format(time.DateOnly)}
		failed = several(ctx, res, *caddy, *scale)
	} else if res, err = p.carryOut(ctx, *caddy); err != nil {
		return err
	}
	res.identify(root, p, *caddy)
	fmt.Print(res.markdown())
	dir := *out
	if dir == "" && p.mode != "ci" {
		dir = filepath.Join(root, "bench", "results", res.name())
	}
	if dir != "" {
		if err := res.save(dir); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "written to", dir)
	}
	return errors.Join(failed, res.verdict(p))
}
