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
	file := filepath.Join(s.dir, "Caddyfile")
	conf := strings.NewReplacer("{{admin}}", admin, "{{layer}}", layer, "{{auth}}", cmp.Or(s.auth, "none"), "{{plugin}}",
		s.plugin.block(), "{{history}}", s.history.block(), "{{site}}", site, "{{tls}}", certLine).Replace(edgerelayCaddyfile)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write the Caddyfile: %w", err)
	}
	cmd := exec.Command(s.caddy, "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "HOME="+s.dir)
	cmd.Env = append(cmd.Env, s.env...)
	p, err := start(cmd, false)
	if err != nil {
		return nil, err
	}
	run.stops = append(run.stops, p.stop)
	for _, a := range []string{addr, admin} {
		if err := p.ready(listening("tcp4", a)); err != nil {
			return nil, err
		}
	}
	run.held, run.procs = []*process{p}, []*process{p}
	run.pids = func() []int {
		if run.redis != nil {
			return []int{p.pid(), run.redis.pid()}
		}
		return []int{p.pid()}
	}
	run.admin = admin
	run.gc = func() error { return collectCaddy(admin) }
	run.target = target{Addr: addr, Path: "/websocket/", Group: benchGroup, Dialect: dialectAWX, TLS: s.tls}
	run.server = p
	if s.history != nil && s.history.positions {
		run.target.Dialect = dialectEvents
	}
	run.emitTo = func(group string) (emitter, error) {
		if withRedis {
			return newGroupSender(run.redis.addr, group)
		}
		return &httpEmitter{addr: admin, path: "/edgerelay/publish", wrap: publishBody(group)}, nil
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
