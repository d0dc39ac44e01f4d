//go:build linux

package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed daphne.conf
var daphneConf string

//go:embed bench_asgi.py
var benchASGI []byte

// AWX's settings of its channel layer.
const (
	layerCapacity    = 10_000
	layerGroupExpiry = 157_784_760
	layerPrefix      = "asgi"
	layerExpiry      = 60
)

// startDaphne starts the setup that edgerelay replaces: nginx in front of Daphne with a Channels consumer,
// channels_redis and its own Redis, all packaged by Debian.
func startDaphne(_ context.Context, s setup) (_ *running, err error) {
	const python = "/usr/bin/python3"
	daphne, err := need("daphne", "daphne python3-channels-redis python3-django")
	if err != nil {
		return nil, err
	}
	imports := exec.Command(python, "-c", "import channels, channels_redis, daphne, django")
	if out, err := imports.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("python modules are missing: apt-get install -y daphne python3-channels-redis "+
			"python3-django: %w: %s", err, out)
	}
	run := &running{}
	defer func() {
		if err != nil {
			run.stop()
		}
	}()
	if run.redis, err = startRedis(s.dir); err != nil {
		return nil, err
	}
	run.stops = append(run.stops, run.redis.stop)
	if err := os.WriteFile(filepath.Join(s.dir, "bench_asgi.py"), benchASGI, 0o600); err != nil {
		return nil, fmt.Errorf("write the ASGI application: %w", err)
	}
	behind, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(python, daphne, "--bind", "127.0.0.1", "--port", strconv.Itoa(behind), "--websocket_timeout",
		"-1", "--verbosity", "0", "bench_asgi:application")
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "PYTHONPATH="+s.dir, "PYTHONDONTWRITEBYTECODE=1",
		"BENCH_REDIS=redis://"+run.redis.addr+"/0",
		"BENCH_CAPACITY="+strconv.Itoa(layerCapacity), "BENCH_GROUP_EXPIRY="+strconv.Itoa(layerGroupExpiry))
	server, err := start(cmd, false)
	if err != nil {
		return nil, err
	}
	run.stops = append(run.stops, server.stop)
	if err := server.ready(listening("tcp4", fmt.Sprintf("127.0.0.1:%d", behind))); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := strings.NewReplacer("{{listen}}", nginxListen(port, s), "{{daphne}}",
		fmt.Sprintf("127.0.0.1:%d", behind)).Replace(daphneConf)
	front, err := startNginx(s, "", conf, port)
	if err != nil {
		return nil, err
	}
	run.stops = append(run.stops, front.stop)
	run.held, run.procs = []*process{server}, []*process{server, front}
	run.pids = func() []int { return withChildren(front.pid(), server.pid(), run.redis.pid()) }
	run.target = target{
		Addr: fmt.Sprintf("127.0.0.1:%d", port), Path: "/websocket/", Group: benchGroup,
		Dialect: dialectAWX, TLS: s.tls,
	}
	if run.emit, err = newGroupSender(run.redis.addr, benchGroup); err != nil {
		return nil, err
	}
	return run, nil
}
