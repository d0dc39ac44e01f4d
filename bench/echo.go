//go:build linux

package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The mode echo compares a consumer under Daphne with a view of django-grip under uWSGI behind the relay, in turns.
const (
	echoClients = 20
	echoTime    = 5 * time.Second
	echoTurns   = 3
	echoWorkers = 2 // of uWSGI
	echoIdle    = 1000
)

//go:embed echo_asgi.py
var echoASGI []byte

//go:embed echo_wsgi.py
var echoWSGI []byte

// echoSystem is a way to echo.
type echoSystem struct {
	name  string
	start func(dir, caddy, packages string) (addr string, procs []*process, err error)
}

var echoSystems = []echoSystem{
	{"Daphne, a Channels consumer", startEchoDaphne},
	{"the relay, django-grip under uWSGI", startEchoRelay},
}

// echoResult is a system's figures over all turns.
type echoResult struct {
	took              []time.Duration
	cpu               time.Duration
	idle              int64 // bytes resident per idle connection, of all processes
	python            int64 // of it, Python's
	messages, seconds float64
}

// echo measures each system in turns and prints a table. packages is a folder with django-grip.
func echo(ctx context.Context, w io.Writer, caddy, packages string) error {
	if packages == "" {
		return errors.New("name the folder of django-grip by -packages; scripts/compat-grip.sh makes bin/compat/grip")
	}
	results := make([]echoResult, len(echoSystems))
	for range echoTurns {
		for i, s := range echoSystems {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := echoTurn(s, caddy, packages, &results[i]); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	fmt.Fprintf(w, "%d clients, each with a message at a time, %d turns of %v; uWSGI has %d workers; "+
		"%d idle connections\n\n",
		echoClients, echoTurns, echoTime, echoWorkers, echoIdle)
	fmt.Fprintln(w, "| system | echoes a second | p50 | p99 | CPU per echo | idle connection, all processes "+
		"| of it Python |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|--:|")
	for i, s := range echoSystems {
		r := &results[i]
		slices.Sort(r.took)
		fmt.Fprintf(w, "| %s | %.0f | %v | %v | %v | %.1f KiB | %.1f KiB |\n", s.name, r.messages/r.seconds,
			r.took[len(r.took)/2].Round(10*time.Microsecond), r.took[len(r.took)*99/100].Round(10*time.Microsecond),
			(r.cpu / time.Duration(r.messages)).Round(time.Microsecond),
			float64(r.idle)/echoTurns/1024, float64(r.python)/echoTurns/1024)
	}
	return nil
}

// echoTurn starts a system, measures it and stops it.
func echoTurn(s echoSystem, caddy, packages string, r *echoResult) error {
	dir, err := os.MkdirTemp("", "echo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	addr, procs, err := s.start(dir, caddy, packages)
	for _, p := range procs {
		defer p.stop()
	}
	if err != nil {
		return err
	}
	pids := []int{}
	for _, p := range procs {
		pids = append(pids, p.pid())
	}
	all, python := withChildren(pids...), withChildren(pids[0])
	clients := make([]*echoClient, echoClients)
	for i := range clients {
		if clients[i], err = dialEcho(addr, "/ws/"); err != nil {
			return err
		}
		defer clients[i].Close()
	}
	if _, err := runEcho(clients, time.Second); err != nil { // warm
		return err
	}
	before, err := cpuOf(all)
	if err != nil {
		return err
	}
	began := time.Now()
	took, err := runEcho(clients, echoTime)
	if err != nil {
		return err
	}
	after, err := cpuOf(all)
	if err != nil {
		return err
	}
	r.took = append(r.took, took...)
	r.cpu += after - before
	r.messages += float64(len(took))
	r.seconds += time.Since(began).Seconds()
	return measureEchoIdle(addr, all, python, r)
}

// measureEchoIdle measures what idle connections add to the resident memory.
func measureEchoIdle(addr string, all, python []int, r *echoResult) error {
	before, err := rssOf(all)
	if err != nil {
		return err
	}
	pythonBefore, err := rssOf(python)
	if err != nil {
		return err
	}
	for range echoIdle {
		c, err := dialEcho(addr, "/ws/")
		if err != nil {
			return err
		}
		defer c.Close()
	}
	after, err := rssOf(all)
	if err != nil {
		return err
	}
	pythonAfter, err := rssOf(python)
	r.idle += (after - before) / echoIdle
	r.python += (pythonAfter - pythonBefore) / echoIdle
	return err
}

// startEchoDaphne starts Daphne with the consumer.
func startEchoDaphne(dir, _, _ string) (addr string, procs []*process, err error) {
	daphne, err := need("daphne", "daphne python3-channels python3-django")
	if err != nil {
		return "", nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "echo_asgi.py"), echoASGI, 0o600); err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command("/usr/bin/python3", daphne, "--bind", "127.0.0.1", "--port", strconv.Itoa(port),
		"--websocket_timeout", "-1", "--verbosity", "0", "echo_asgi:application")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1")
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	return startEchoProcess(addr, nil, cmd)
}

// startEchoRelay starts uWSGI with the view, and the relay. uWSGI is the first process.
func startEchoRelay(dir, caddy, packages string) (addr string, procs []*process, err error) {
	uwsgi, err := need("uwsgi", "uwsgi-core uwsgi-plugin-python3")
	if err != nil {
		return "", nil, err
	}
	behind, err := freePort()
	if err != nil {
		return "", nil, err
	}
	port, err := freePort()
	if err != nil {
		return "", nil, err
	}
	file, app := filepath.Join(dir, "Caddyfile"), filepath.Join(dir, "echo_wsgi.py")
	config := fmt.Sprintf("{\n\tadmin off\n\tedgerelay {\n\t\tchannel_layer memory\n\t\tauth none\n\t\tlimits {\n\t\t\t"+
		"subscribe_rate 0\n\t\t\tconnections_per_user 0\n\t\t}\n\t}\n}\nhttp://127.0.0.1:%d {\n\tedgerelay {\n\t\t"+
		"route /ws/ {\n\t\t\tmessages backend uwsgi://127.0.0.1:%d {\n\t\t\t\tconcurrency %d\n\t\t\t}\n\t\t}\n\t}\n}\n",
		port, behind, echoWorkers)
	if err := errors.Join(os.WriteFile(file, []byte(config), 0o600), os.WriteFile(app, echoWSGI, 0o600)); err != nil {
		return "", nil, err
	}
	cmd := exec.Command(uwsgi, "--plugin", "python3", "--socket", fmt.Sprintf("127.0.0.1:%d", behind), "--wsgi-file", app,
		"--pythonpath", packages, "--processes", strconv.Itoa(echoWorkers), "--master", "--need-app", "--die-on-term",
		"--disable-logging", "--lazy-apps")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	if _, procs, err = startEchoProcess(fmt.Sprintf("127.0.0.1:%d", behind), nil, cmd); err != nil {
		return "", procs, err
	}
	front := exec.Command(caddy, "run", "--config", file, "--adapter", "caddyfile")
	front.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return startEchoProcess(fmt.Sprintf("127.0.0.1:%d", port), procs, front)
}

func startEchoProcess(addr string, before []*process, cmd *exec.Cmd) (string, []*process, error) {
	p, err := start(cmd, false)
	if err != nil {
		return "", before, err
	}
	procs := append(before, p)
	return addr, procs, p.ready(listening("tcp4", addr))
}

// echoClient is a WebSocket that sends short texts and waits for each.
type echoClient struct {
	net.Conn
	r *bufio.Reader
}

func dialEcho(addr, path string) (*echoClient, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	c := &echoClient{conn, bufio.NewReaderSize(conn, 512)}
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: sessionid=%s\r\n\r\n",
		path, addr, strings.Repeat("x", 32))
	if err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(c.r, nil); err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
			err = fmt.Errorf("handshake: %s", resp.Status)
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// echo sends a text of 100 bytes and waits for it.
func (c *echoClient) echo(frame []byte) error {
	if _, err := c.Write(frame); err != nil {
		return err
	}
	for { // pings of the server are skipped
		head, err := c.r.Peek(2)
		if err != nil {
			return err
		}
		opcode, size := head[0]&0x0f, int(head[1]&0x7f)
		if _, err := c.r.Discard(2 + size); err != nil {
			return err
		}
		switch opcode {
		case 1:
			return nil
		case 8:
			return io.ErrUnexpectedEOF
		}
	}
}

// runEcho has all clients echo for a time, and returns the time of each echo.
func runEcho(clients []*echoClient, limit time.Duration) (took []time.Duration, failed error) {
	frame := append([]byte{0x81, 0x80 | 100, 0, 0, 0, 0}, strings.Repeat("x", 100)...)
	var mu sync.Mutex
	var all sync.WaitGroup
	end := time.Now().Add(limit)
	for _, c := range clients {
		all.Go(func() {
			var own []time.Duration
			var err error
			for began := time.Now(); err == nil && began.Before(end); {
				err = c.echo(frame)
				now := time.Now()
				own, began = append(own, now.Sub(began)), now
			}
			mu.Lock()
			defer mu.Unlock()
			took, failed = append(took, own...), errors.Join(failed, err)
		})
	}
	all.Wait()
	return took, failed
}
