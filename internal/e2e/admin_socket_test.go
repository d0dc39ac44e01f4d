package e2e

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// socketSite keeps its admin API on a Unix socket.
const socketSite = `{
	admin unix/%s|0600
	persist_config off
	edgerelay {
		auth none
	}
}
{$SITE} {
	edgerelay
}
`

// found runs a command that is not told where the admin API is, but for CADDY_ADMIN, and returns what it printed.
func found(t *testing.T, r *peers.Relay, admin string, args ...string) (string, error) {
	t.Helper()
	cmd := r.Command(args...)
	cmd.Env = append(cmd.Environ(), "CADDY_ADMIN="+admin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// The admin API moves from TCP to a Unix socket by a reload, only its owner may use that, and all commands find it.
func TestAdminAPIOnASocket(t *testing.T) {
	t.Parallel()
	relay := peers.StartRelay(t, strings.Replace(fmt.Sprintf(socketSite, ""), "unix/|0600", "{$ADMIN}", 1))
	socket := filepath.Join(t.TempDir(), "admin.sock")
	config := fmt.Sprintf(socketSite, socket)
	if err := relay.Load(config); err != nil {
		t.Fatal(err)
	}
	// Caddy answers the reload first.
	testkit.Eventually(t, "the socket", func() error {
		info, err := os.Stat(socket)
		if err == nil && info.Mode() != fs.ModeSocket|0o600 {
			err = fmt.Errorf("its mode is %v", info.Mode())
		}
		return err
	})
	testkit.Eventually(t, "nothing on TCP", func() error {
		resp, err := http.Get(relay.Admin + "/config/")
		if err == nil {
			_ = resp.Body.Close()
			return fmt.Errorf("%s answers %s", relay.Admin, resp.Status)
		}
		return nil
	})

	wasm := filepath.Join(peers.Root(t), "examples", "plugins", "quiet", "plugin.wasm")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status"}, "channel layer"},
		{[]string{"health"}, `"status"`},
		{[]string{"top", "--once"}, "TOP GROUPS"},
		{[]string{"publish", "--group", "jobs-status_changed", "--data", "{}", "--json"}, `{"members":`},
		{[]string{"doctor"}, "round trip"},
		{[]string{"drain", "--status"}, "off"},
		{[]string{
			"bench", "--url", "ws" + strings.TrimPrefix(relay.URL, "http") + "/websocket/", "--clients", "2",
			"--duration", "100ms",
		}, "deliveries arrived"},
		{[]string{"plugin", "list"}, "NAME"},
		{[]string{"plugin", "deploy", "nothing", wasm}, "nothing"},
	} {
		out, err := found(t, relay, "unix/"+socket+"|0600", append([]string{"edgerelay"}, c.args...)...)
		if (err != nil) != (c.args[len(c.args)-1] == wasm) || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", strings.Join(c.args, " "), err, out)
		}
	}
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(config, "{$SITE}", relay.URL)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := found(t, relay, "", "reload", "--config", file, "--force"); err != nil {
		t.Errorf("reload: %v\n%s", err, out)
	}
	nowhere := "unix/" + filepath.Join(t.TempDir(), "admin.sock")
	if out, err := found(t, relay, nowhere, "edgerelay", "status"); err == nil || !strings.Contains(out, nowhere) ||
		!strings.Contains(out, "CADDY_ADMIN") {
		t.Errorf("no socket: %v\n%s", err, out)
	}
}

// doctorSite is a site with all that doctor finds around the relay.
const doctorSite = `{
	%[2]s
	persist_config off
	servers {
		trusted_proxies static 10.0.0.1
		%[3]s
	}
	edgerelay {
		auth awx %[1]s
	}
}
{$SITE} {
	edgerelay
	reverse_proxy %[4]s
}
`

// doctor warns of an admin API on TCP, of proxies that are believed everything, and of a reverse_proxy that does not
// suit uWSGI.
func TestDoctorChecksTheSite(t *testing.T) {
	t.Parallel()
	awx := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer awx.Close()
	address := peers.StartPlainUWSGI(t)
	site := func(admin, strict, proxy string) string {
		return fmt.Sprintf(doctorSite, awx.URL, admin, strict, proxy)
	}
	const rest = " {\nrequest_buffers 5MiB\ntransport http {\nkeepalive off\n}\n}"
	bad, good := site("admin {$ADMIN}", "", address), site("admin off", "trusted_proxies_strict", address+rest)
	relay := peers.StartRelay(t, bad)
	file := filepath.Join(t.TempDir(), "Caddyfile")
	ofFile := func(config string) string {
		text := strings.NewReplacer("{$SITE}", relay.URL, "{$ADMIN}", strings.TrimPrefix(relay.Admin, "http://")).
			Replace(config)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := run(t, relay, "doctor", "--config", file)
		return out
	}
	running, _ := run(t, relay, "doctor")
	for name, out := range map[string]string{"running": running, "--config": ofFile(bad)} {
		warnings := strings.Join(lines(out, "WARN"), "")
		for _, want := range []string{
			"admin unix//run/edgerelay/admin.sock|0600", "trusted_proxies_strict",
			"keepalive off",
		} {
			if !strings.Contains(warnings, want) {
				t.Errorf("%s: no warning names %s:\n%s", name, want, out)
			}
		}
		if !strings.Contains(strings.Join(lines(out, "ok"), ""), "MAX_WEBSOCKET_EVENT_RATE") {
			t.Errorf("%s: nothing of MAX_WEBSOCKET_EVENT_RATE:\n%s", name, out)
		}
	}
	out := ofFile(good)
	for _, check := range []string{"admin ", "proxies ", "http-socket "} {
		if !strings.Contains(strings.Join(lines(out, "ok"), ""), "  "+check) {
			t.Errorf("%s is not well:\n%s", check, out)
		}
	}
}

// auth awx asks uWSGI's own socket, on TCP and as a Unix socket. The application here lets everybody in, which doctor
// tells.
func TestAuthAWXSpeaksToUWSGI(t *testing.T) {
	t.Parallel()
	uwsgi := peers.StartUWSGI(t, 1)
	relay := peers.StartRelay(t, "{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n}\n")
	file := filepath.Join(t.TempDir(), "Caddyfile")
	for _, address := range []string{
		"uwsgi://" + uwsgi.Socket, "uwsgi+unix://" + uwsgi.Unix,
		"uwsgi+unix/" + uwsgi.Unix,
	} {
		config := "{\n\tedgerelay {\n\t\tauth awx " + address + "\n\t}\n}\n:0 {\n\tedgerelay\n}\n"
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := run(t, relay, "doctor", "--config", file)
		if !strings.Contains(strings.Join(lines(out, "FAIL"), ""), "/api/v2/me/ returns 200 without credentials") {
			t.Errorf("%s:\n%s", address, out)
		}
	}
}

// A Redis that is down is a finding of doctor, and does not hide the other findings.
func TestDoctorOfConfigWithoutRedis(t *testing.T) {
	t.Parallel()
	relay := peers.StartRelay(t, "{\n\tadmin {$ADMIN}\n}\n{$SITE} {\n}\n")
	file := filepath.Join(t.TempDir(), "Caddyfile")
	config := "{\n\tadmin off\n\tedgerelay {\n\t\tchannel_layer redis unix://" + filepath.Join(t.TempDir(), "none.sock") +
		"\n\t\tauth none\n\t}\n}\n:0 {\n\tedgerelay\n}\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := run(t, relay, "doctor", "--config", file)
	failures := strings.Join(lines(out, "FAIL"), "")
	for _, want := range []string{"unixsocket in redis.conf", "round trip"} {
		if !strings.Contains(failures, want) {
			t.Errorf("no failure has %q:\n%s", want, out)
		}
	}
}
