package browser

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
)

// doorsPage uses the client as its README shows, and keeps what it says. The query has the client's options as JSON.
const doorsPage = `<!DOCTYPE html><meta charset="utf-8"><title>doors</title><link rel="icon" href="data:,">
<script type="module">
import { connect } from "./edgerelay/index.js";
document.cookie = "csrftoken=of-this-page";
window.events = []; window.gaps = []; window.doors = []; window.states = [];
const options = JSON.parse(new URLSearchParams(location.search).get("options") ?? "{}");
const began = performance.now();
window.client = connect({ groups: { jobs: ["status_changed"] }, ...options });
client.on("event", ({ n }) => { window.first ??= performance.now() - began; events.push(n); window.at = performance.now(); });
client.on("gap", ({ reason }) => gaps.push(reason));
client.on("door", ({ door }) => doors.push(door));
client.on("state", ({ state, reason }) => states.push(state + (reason ? " " + reason : "")));
window.faults = () => events.filter((n, i) => i > 0 && n !== events[i - 1] + 1).length + gaps.length;
window.protocols = () => new Set(performance.getEntriesByType("resource").map((e) => e.nextHopProtocol));
</script>`

// networks are ways from a browser to one relay.
type networks struct {
	relay *site
	// URLs of the page without a slash at the end, by network: plain, h1, h2 and h3 with TLS, and behind nginx stripping,
	// which does not know of WebSockets, and buffering, which keeps responses back as well.
	url map[string]string
	// pin is the hash of the certificate's key.
	pin string
}

const proxies = `daemon off;
master_process off;
error_log stderr;
pid @DIR@/nginx.pid;
events {}
http {
	access_log off;
	client_body_temp_path @DIR@;
	proxy_temp_path @DIR@;
	fastcgi_temp_path @DIR@;
	uwsgi_temp_path @DIR@;
	scgi_temp_path @DIR@;
	server {
		listen 127.0.0.1:@STRIPPING@;
		location / {
			proxy_pass http://127.0.0.1:@RELAY@;
			proxy_set_header Host $http_host;
		}
	}
	server {
		listen 127.0.0.1:@BUFFERING@;
		location / {
			proxy_pass http://127.0.0.1:@RELAY@;
			proxy_set_header Host $http_host;
			proxy_ignore_headers X-Accel-Buffering;
		}
	}
}
`

// startNetworks starts a relay with a history, and the proxies in front of it.
func startNetworks(t *testing.T) *networks {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "edgerelay"),
		os.DirFS(filepath.Join("..", "..", "clients", "js", "dist"))); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("doors.html", doorsPage)
	files := peers.MakeCertificates(t)
	h1, h2, h3 := testkit.FreePort(t), testkit.FreePort(t), testkit.FreePort(t)
	s := newSiteOf(t, write("Caddyfile", fmt.Sprintf(`{
	admin localhost:2019
	grace_period 1s
	auto_https off
	servers 127.0.0.1:%[1]d {
		protocols h1
	}
	servers 127.0.0.1:%[2]d {
		protocols h1 h2
	}
	servers 127.0.0.1:%[3]d {
		protocols h1 h2 h3
	}
	edgerelay {
		auth none
		channel_layer memory
		history * {
			count 100000
			size 64MiB
		}
	}
}
(page) {
	edgerelay
	edgerelay_demo
	root %[4]s
	file_server
}
https://127.0.0.1:%[1]d, https://127.0.0.1:%[2]d, https://127.0.0.1:%[3]d {
	bind 127.0.0.1
	tls %[5]s %[6]s
	import page
}
:8013 {
	import page
}
`, h1, h2, h3, dir, files.Cert, files.Key)))
	s.start(t)
	_, relay, _ := strings.Cut(strings.Trim(strings.TrimPrefix(s.URL, "http://"), "/"), ":")
	n := &networks{relay: s, url: map[string]string{"plain": strings.TrimSuffix(s.URL, "/")}}
	for name, port := range map[string]int{"h1": h1, "h2": h2, "h3": h3} {
		n.url[name] = "https://" + testkit.Loopback(port)
	}
	n.pin = pin(t, files)

	stripping, buffering := testkit.FreePort(t), testkit.FreePort(t)
	home := t.TempDir()
	conf := filepath.Join(home, "nginx.conf")
	text := strings.NewReplacer("@DIR@", home, "@RELAY@", relay, "@STRIPPING@", strconv.Itoa(stripping),
		"@BUFFERING@", strconv.Itoa(buffering)).Replace(proxies)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	nginx := process.Start(t, "nginx", exec.Command(process.Program(t, "nginx"), "-p", home, "-e", "stderr", "-c", conf))
	for name, port := range map[string]int{"stripping": stripping, "buffering": buffering} {
		n.url[name] = "http://" + testkit.Loopback(port)
		nginx.Ready(t, func() error {
			resp, err := http.Get(n.url[name] + "/doors.html")
			if err == nil {
				_ = resp.Body.Close()
			}
			return err
		})
	}
	return n
}

// pin returns the hash of a certificate's key, as Chromium wants it.
func pin(t *testing.T, files peers.Certificates) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(hash[:])
}

// publish publishes an event with a number, past all proxies.
func (n *networks) publish(number int) error {
	resp, err := http.Post(n.url["plain"]+"/publish", "application/json",
		strings.NewReader(fmt.Sprintf(`{"group": %q, "data": {"n": %d}}`, offlineGroup, number)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("publish: %s", resp.Status)
	}
	return nil
}

// chromium starts Chromium. It accepts the relay's certificate, and talks HTTP/3 to its port of that name.
func (n *networks) chromium(t *testing.T) *Page {
	t.Helper()
	return Open(t, chromedp.Flag("ignore-certificate-errors-spki-list", n.pin),
		chromedp.Flag("origin-to-force-quic-on", strings.TrimPrefix(n.url["h3"], "https://")))
}
