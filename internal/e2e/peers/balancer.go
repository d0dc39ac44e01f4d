package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// Balancer is nginx as the load balancer in front of one site or another. A change of the site is a reload: open
// connections stay where they are, new ones go to the new site, and none is refused.
type Balancer struct {
	// URL is the address, without a slash at the end.
	URL string

	t     testing.TB
	nginx *process.Process
	dir   string
	port  int
}

// SiteHeader is the response header by which the balancer names the site that has answered.
const SiteHeader = "X-Site"

const balancerConf = `daemon off;
user root;
pid %[1]s/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 512; }
http {
	access_log off;
	client_max_body_size 5M;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	map $http_upgrade $connection_upgrade { default upgrade; '' close; }
	server {
		listen 127.0.0.1:%[2]d;
		location / {
			proxy_pass %[3]s;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_read_timeout 1h;
			add_header X-Site %[4]s always;
		}
	}
}
`

// StartBalancer starts nginx in front of a site at url, which it calls name.
func StartBalancer(t testing.TB, name, url string) *Balancer {
	t.Helper()
	b := &Balancer{t: t, dir: t.TempDir(), port: testkit.FreePort(t)}
	b.URL = "http://" + testkit.Loopback(b.port)
	b.write(name, url)
	b.nginx = process.Start(t, "balancer", exec.Command(process.Program(t, "nginx"), "-p", b.dir, "-e", "stderr", "-c", b.conf()))
	b.nginx.Ready(t, answers(b.URL+"/stats/"))
	return b
}

// Switch sends new connections to another site.
func (b *Balancer) Switch(name, url string) {
	b.t.Helper()
	b.write(name, url)
	b.nginx.Signal(syscall.SIGHUP)
}

func (b *Balancer) conf() string { return filepath.Join(b.dir, "nginx.conf") }

func (b *Balancer) write(name, url string) {
	b.t.Helper()
	text := fmt.Sprintf(balancerConf, b.dir, b.port, strings.TrimSuffix(url, "/"), name)
	if err := os.WriteFile(b.conf(), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}
