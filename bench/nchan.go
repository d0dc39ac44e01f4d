//go:build linux

package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed nchan.conf
var nchanConf string

//go:embed nginx.conf
var nginxConf string

// startNchan starts nginx with Debian's nchan module: one port for clients, one for publishers.
func startNchan(_ context.Context, s setup) (*running, error) {
	const module = "/usr/lib/nginx/modules/ngx_nchan_module.so"
	if !isFile(module) {
		return nil, fmt.Errorf("%s is missing: apt-get install -y nginx libnginx-mod-nchan", filepath.Base(module))
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	publish, err := freePort()
	if err != nil {
		return nil, err
	}
	server := strings.NewReplacer("{{listen}}", nginxListen(port, s), "{{publish}}",
		fmt.Sprintf("127.0.0.1:%d", publish)).Replace(nchanConf)
	p, err := startNginx(s, "load_module "+module+";", server, port)
	if err != nil {
		return nil, err
	}
	run := &running{stops: []func(){p.stop}, pids: func() []int { return withChildren(p.pid()) }}
	run.target = target{
		Addr: fmt.Sprintf("127.0.0.1:%d", port), Path: "/websocket/", Group: benchGroup,
		Dialect: dialectPlain, TLS: s.tls,
	}
	e := &httpEmitter{addr: fmt.Sprintf("127.0.0.1:%d", publish), path: "/publish", header: "Accept: text/json\r\n"}
	run.emit = e
	run.subscribed = func() (int, error) { return nchanSubscribers("http://" + e.addr + "/publish") }
	return run, nil
}

func nchanSubscribers(url string) (int, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, fmt.Errorf("ask nchan: %w", err)
	}
	req.Header.Set("Accept", "text/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("ask nchan for its subscribers: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		return 0, nil // no channel yet
	}
	var info struct{ Subscribers int }
	if err := json.NewDecoder(res.Body).Decode(&info); err != nil {
		return 0, fmt.Errorf("read nchan's channel information: %w", err)
	}
	return info.Subscribers, nil
}

// nginxListen is the listen directive for clients, with a certificate under TLS. reuseport spreads the connections
// evenly over the workers.
func nginxListen(port int, s setup) string {
	if !s.tls {
		return fmt.Sprintf("listen 127.0.0.1:%d backlog=4096 reuseport;", port)
	}
	return fmt.Sprintf("listen 127.0.0.1:%d ssl backlog=4096 reuseport; ssl_certificate %s; ssl_certificate_key %s;",
		port, s.cert.certFile, s.cert.keyFile)
}

// startNginx runs nginx in the foreground; all its files are below the session's directory.
func startNginx(s setup, head, servers string, port int) (*process, error) {
	nginx, err := need("nginx", "nginx")
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		head += "\nuser root;" // the session's directory is closed to others
	}
	files, err := maxFiles()
	if err != nil {
		return nil, err
	}
	conf := strings.NewReplacer("{{head}}", head, "{{dir}}", s.dir, "{{files}}", strconv.Itoa(files),
		"{{connections}}", strconv.Itoa(2*files), "{{servers}}", servers).Replace(nginxConf)
	file := filepath.Join(s.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, fmt.Errorf("write nginx.conf: %w", err)
	}
	p, err := start(exec.Command(nginx, "-p", s.dir, "-c", file, "-e", filepath.Join(s.dir, "nginx-error.log")), false)
	if err != nil {
		return nil, err
	}
	if err := p.ready(listening("tcp4", fmt.Sprintf("127.0.0.1:%d", port))); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}
