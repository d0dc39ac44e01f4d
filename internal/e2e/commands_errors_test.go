package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// output is what a command wrote, and its exit code.
type output struct {
	stdout, stderr string
	code           int
}

// command runs a command of the relay's Caddy, with the admin API's address unless it is one that has no such flag.
func command(t *testing.T, r *peers.Relay, args ...string) output {
	t.Helper()
	cmd := r.Command(append([]string{"edgerelay"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

const memorySite = "{\n\tadmin {$ADMIN}\n\tpersist_config off\n\tedgerelay {\n\t\tauth none\n\t}\n}\n{$SITE} {\n\tedgerelay\n}\n"

// A word that is no command is an error, not a success with the help. The exit code of a wrong command line is 2.
func TestUnknownCommandsFail(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, memorySite)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"misspelled", []string{"stauts"}, "status"},
		{"misspelled plugin command", []string{"plugin", "depoly", "x", "y"}, "deploy"},
		{"unlike any", []string{"nonsense"}, "--help"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := command(t, r, c.args...)
			if out.code != 2 || !strings.Contains(out.stderr, "unknown command") || out.stdout != "" ||
				!strings.Contains(out.stderr, c.want) {
				t.Errorf("edgerelay %q: exit code %d, stdout %q, stderr %q", c.args, out.code, out.stdout, out.stderr)
			}
		})
	}
	if out := command(t, r); out.code != 0 || !strings.Contains(out.stdout, "publish") {
		t.Errorf("edgerelay alone: exit code %d, stdout %q", out.code, out.stdout)
	}
}

// An error of the admin API is written once, as a sentence: no JSON in JSON.
func TestAdminErrorsAreReadable(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, memorySite)
	broken := filepath.Join(t.TempDir(), "broken.wasm")
	if err := os.WriteFile(broken, []byte("not \"wasm\""), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "--address=" + strings.TrimPrefix(r.Admin, "http://")
	for _, c := range []struct {
		name string
		args []string
		want string
		code int
	}{
		{
			"publish to no group",
			[]string{"publish", "--group", "no such group!", "--data", "{}", address},
			`"no such group!" is not a group name`, 2,
		},
		{"deploy of an unknown plugin", []string{"plugin", "deploy", "none", broken, address}, "none", 1},
		{"rollback of an unknown plugin", []string{"plugin", "rollback", "none", address}, "none", 1},
		{"history of a group without one", []string{"group", "history", "jobs-x", address}, "add 'history <pattern>'", 1},
		{"peers without a backplane", []string{"peer", "list", address}, "no backplane", 1},
		{"close with a wrong code", []string{"connection", "close", "--user", "x", "--code", "7", address}, "close code 7", 2},
		{"close from no address", []string{"connection", "close", "--from", "notanip", address}, "notanip", 2},
		{"tail of an unknown class", []string{"tail", "x", "--class", "99", address}, "99", 2},
		{"tail since no time", []string{"tail", "x", "--since", "abc", address}, "abc", 2},
		{"replay since no time", []string{"group", "replay", "x", "--since", "yesterday", address}, "yesterday", 2},
		{"status without a relay", []string{"status", "--address=localhost:1"}, "localhost:1", 3},
		{"health without a relay", []string{"health", "--address=localhost:1"}, "localhost:1", 1},
		{"bench without an address", []string{"bench", address}, "--url", 2},
		{"drain with two wishes", []string{"drain", "--cancel", "--wait", address}, "--cancel", 2},
		{"unknown flag", []string{"status", "--adress", "x"}, "did you mean --address?", 2},
		{"missing argument", []string{"presence", address}, "usage: caddy edgerelay presence <group>", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := command(t, r, c.args...)
			if out.code != c.code || !strings.Contains(out.stderr, c.want) || out.stdout != "" || strings.Contains(out.stderr, `\"`) ||
				strings.Contains(out.stderr, `{"error"`) ||
				strings.Count(out.stderr, "\n") != 1 {
				t.Errorf("exit code %d; stderr is not one plain line with %q in it: %q", out.code, c.want, out.stderr)
			}
		})
	}
}

// Scripts read the state most of all when the node is unhealthy.
func TestHealthCommandPrintsJSONWhenUnhealthy(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t,
		"{\n\tadmin {$ADMIN}\n\tpersist_config off\n\tedgerelay {\n\t\tauth none\n\t\tchannel_layer redis redis://127.0.0.1:1/0\n\t}\n}\n"+
			"{$SITE} {\n\tedgerelay\n}\n")
	testkit.Eventually(t, "the node is unhealthy and says so as JSON", func() error {
		out := command(t, r, "health", "--address", strings.TrimPrefix(r.Admin, "http://"))
		var state struct {
			Status       string
			ChannelLayer struct{ Detail string } `json:"channel_layer"`
		}
		if err := json.Unmarshal([]byte(out.stdout), &state); err != nil {
			return fmt.Errorf("stdout is not JSON: %w: %q (stderr %q)", err, out.stdout, out.stderr)
		}
		if out.code == 0 || state.Status == "ok" || state.Status == "" {
			return fmt.Errorf("exit code %d, status %q", out.code, state.Status)
		}
		return nil
	})
}

// An event that no client asked for is worth a word: a misspelled group looks like a success otherwise.
func TestPublishSaysThatNoClientIsSubscribed(t *testing.T) {
	t.Parallel()
	r := peers.StartRelay(t, memorySite)
	address := strings.TrimPrefix(r.Admin, "http://")
	out := command(t, r, "publish", "--group", "jobs-status_changed", "--data", "{}", "--json", "--address", address)
	if out.code != 0 || !strings.Contains(out.stderr, "no client") ||
		out.stdout != "{\"members\":0,\"over_capacity\":0}\n" {
		t.Errorf("without a client: %+v", out)
	}
	subscriber(t, r.URL, peers.Login{CSRF: "t"}, "jobs-status_changed")
	out = command(t, r, "publish", "--group", "jobs-status_changed", "--data", "{}", "--address", address)
	if out.code != 0 || out.stderr != "" || out.stdout != "published to jobs-status_changed: 1 member\n" {
		t.Errorf("with a client: %+v", out)
	}
}

// A site with a certificate of a private authority can be tried by doctor and bench, and the remedy fits the fault.
func TestCommandsKnowPrivateAuthorities(t *testing.T) {
	t.Parallel()
	certs := peers.MakeCertificates(t)
	port := testkit.FreePort(t)
	r := peers.StartRelay(t,
		memorySite+fmt.Sprintf("https://localhost:%d {\n\tbind 127.0.0.1\n\ttls %s %s\n\tedgerelay\n}\n", port,
			certs.Cert, certs.Key))
	url := fmt.Sprintf("wss://localhost:%d/websocket/", port)
	address := "--address=" + strings.TrimPrefix(r.Admin, "http://")
	bench := []string{"bench", "--url", url, "--clients", "2", "--rate", "20", "--duration", "200ms", address}

	testkit.Eventually(t, "doctor trusts the authority given", func() error {
		out := command(t, r, "doctor", "--url", url, "--ca", certs.CA, address)
		if len(lines(out.stdout, "ok    front door")) != 1 {
			return errors.New(out.stdout + out.stderr)
		}
		return nil
	})
	if out := command(t, r, append(bench, "--ca", certs.CA)...); out.code != 0 {
		t.Errorf("bench --ca: %+v", out)
	}
	if out := command(t, r, append(bench, "--insecure")...); out.code != 0 {
		t.Errorf("bench --insecure: %+v", out)
	}
	if out := command(t, r, bench...); out.code == 0 || !strings.Contains(out.stderr, "--ca") {
		t.Errorf("bench without --ca: %+v", out)
	}
	out := command(t, r, "doctor", "--url", url, address)
	if door := lines(out.stdout, "FAIL  front door"); len(door) != 1 || !strings.Contains(door[0], "--ca") ||
		strings.Contains(door[0], "Upgrade") {
		t.Errorf("doctor without --ca: %+v", out)
	}
	if out := command(t, r, append(bench, "--ca", certs.Key)...); out.code == 0 ||
		!strings.Contains(out.stderr, "PEM") {
		t.Errorf("bench with a key in place of a certificate: %+v", out)
	}
}
