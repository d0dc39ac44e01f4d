//go:build linux

package main

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed edgerelay.Caddyfile
var edgerelayCaddyfile string

func startEdgerelayMemory(ctx context.Context, s setup) (*running, error) {
	return startEdgerelay(ctx, s, false)
}

func startEdgerelayRedis(ctx context.Context, s setup) (*running, error) {
	return startEdgerelay(ctx, s, true)
}

// startEdgerelay starts the custom Caddy. Without Redis it uses the memory layer and events come over the admin API;
// with Redis they come as Python sends them.
func startEdgerelay(_ context.Context, s setup, withRedis bool) (_ *running, err error) {
	if !isFile(s.caddy) {
		return nil, fmt.Errorf("no Caddy with edgerelay at %s: make build, or name one with -caddy", s.caddy)
	}
	run := &running{}
	defer func() {
		if err != nil {
			run.stop()
		}
	}()
	layer := "channel_layer memory"
	if withRedis {
		if run.redis, err = startRedis(s.dir); err != nil {
			return nil, err
		}
		run.stops = append(run.stops, run.redis.stop)
		layer = fmt.Sprintf("channel_layer redis {\n\t\t\turl redis://%s/0\n\t\t\tprefix %s\n\t\t\tcapacity %d\n"+
			"\t\t\tgroup_expiry %ds\n\t\t}",
			run.redis.addr, layerPrefix, layerCapacity, layerGroupExpiry)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	adminPort, err := freePort()
	if err != nil {
		return nil, err
	}
	addr, admin := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", adminPort)
	site, certLine := "http://"+addr, ""
	if s.tls {
		site, certLine = "https://"+addr, "tls "+s.cert.certFile+" "+s.cert.keyFile
	}
	socket := s.front.socket(s.dir)
	file := filepath.Join(s.dir, "Caddyfile")
	conf := strings.NewReplacer("{{admin}}", admin, "{{layer}}", layer, "{{auth}}", cmp.Or(s.auth, "none"), "{{plugin}}",
		s.plugin.block(), "{{history}}", s.history.block(), "{{compression}}", s.deflate.block(),
		"{{route}}", s.route.block(), "{{site}}", site, "{{tls}}", certLine,
		"{{servers}}", s.front.servers(socket), "{{bind}}", bindLine(socket)).Replace(edgerelayCaddyfile)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write the Caddyfile: %w", err)
	}
	run.again = func() (err error) {
		command := []string{s.caddy, "run", "--config", file, "--adapter", "caddyfile"}
		if s.cpus > 0 {
			command = append([]string{"taskset", "-c", fmt.Sprintf("0-%d", s.cpus-1)}, command...)
		}
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "HOME="+s.dir)
		cmd.Env = append(cmd.Env, s.env...)
		if run.server, err = start(cmd, false); err != nil {
			return err
		}
		run.held, run.procs = []*process{run.server}, []*process{run.server}
		site := listening("tcp4", addr)
		if socket != "" {
			site = listening("unix", socket)
		}
		if err := run.server.ready(site); err != nil {
			return err
		}
		return run.server.ready(listening("tcp4", admin))
	}
	run.stops = append(run.stops, func() {
		if run.server != nil {
			run.server.stop()
		}
	})
	if err := run.again(); err != nil {
		return nil, err
	}
	run.pids = func() []int {
		if run.redis != nil {
			return []int{run.server.pid(), run.redis.pid()}
		}
		return []int{run.server.pid()}
	}
	run.admin = admin
	run.gc = func() error { return collectCaddy(admin) }
	run.target = target{
		Addr: addr, Path: "/websocket/", Group: benchGroup, Dialect: dialectAWX, TLS: s.tls, Socket: socket,
	}
	if s.front != nil {
		run.target.Before = []byte(s.front.before)
	}
	if s.history != nil && s.history.positions {
		run.target.Dialect = dialectEvents
	}
	form := awxMessage
	if s.route != nil && s.route.rule != "" {
		form = s.route.message
		run.target.Dialect, run.target.Path = dialectPlain, routePath
	}
	if s.route != nil && s.route.dialect != "" {
		run.target.Dialect = s.route.dialect
	}
	run.emitTo = func(group string) (emitter, error) {
		if withRedis {
			sender, err := newGroupSender(run.redis.addr, group)
			if err == nil {
				sender.form = form
			}
			return sender, err
		}
		return &httpEmitter{addr: admin, path: "/edgerelay/publish", wrap: form.publishBody(group)}, nil
	}
	run.emit, err = run.emitTo(benchGroup)
	return run, err
}

// publishBody makes the request body of the admin API's publish.
func publishBody(group string) func(event []byte) []byte {
	return func(event []byte) []byte {
		b := append([]byte(`{"group": "`+group+`", "data": `), event...)
		return append(b, '}')
	}
}

// collectCaddy runs a garbage collection through Caddy's pprof endpoint.
func collectCaddy(admin string) error {
	return pprof(admin, "heap?gc=1", io.Discard)
}
