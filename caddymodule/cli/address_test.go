package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
)

func TestFindAdmin(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	missing := filepath.Join(t.TempDir(), "admin.sock")
	for _, c := range []struct{ name, flag, environment, socket, want string }{
		{"flag", "localhost:2020", "localhost:2021", socket, "localhost:2020"},
		{"environment", "", "unix//run/x.sock|0600", socket, "unix//run/x.sock|0600"},
		{"socket", "", "", socket, "unix/" + socket},
		{"default", "", "", missing, "localhost:2019"},
		{"URL", "http://localhost:2019/", "", socket, "localhost:2019"},
		{"URL in upper case", "HTTP://localhost:2019/", "", socket, "localhost:2019"},
		{"URL of a socket", "unix:///run/x.sock", "", socket, "unix//run/x.sock"},
		{"URL of a socket in the environment", "", "UNIX:/run/x.sock|0600", socket, "unix//run/x.sock|0600"},
		{"URL in the environment", "", "http://[::1]:2019", socket, "[::1]:2019"},
	} {
		t.Run(c.name, func(t *testing.T) {
			place := findAdmin(c.flag, c.environment, c.socket)
			if place.address != c.want {
				t.Errorf("found %s, want %s", place.address, c.want)
			}
		})
	}
}

// A port is not needed, and an address for all interfaces is called at this machine.
func TestParseAdmin(t *testing.T) {
	for address, want := range map[string]string{
		"localhost": "tcp localhost:2019", "10.0.0.1": "tcp 10.0.0.1:2019", "[::1]": "tcp [::1]:2019",
		"localhost:2020": "tcp localhost:2020", ":2020": "tcp localhost:2020", "0.0.0.0:2020": "tcp localhost:2020",
		"[::]:2020": "tcp localhost:2020", "tcp4/localhost": "tcp4 localhost:2019", "unix//run/x.sock|0600": "unix /run/x.sock|0600",
	} {
		at, err := adminAddress{address, "from --address"}.parse()
		if got := at.Network + " " + at.JoinHostPort(0); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", address, got, err, want)
		}
	}
	for _, address := range []string{
		"off", "localhost:0", "https://localhost", "udp/localhost:2019", "localhost:x", "localhost/a",
		"HTTPS://localhost", "user:s3cret@localhost", "unix+h2c//run/x.sock", "tcp://localhost",
	} {
		at, err := adminAddress{address, "from CADDY_ADMIN"}.parse()
		if err == nil || exitCode(err) != exitUsage || !strings.Contains(err.Error(), "CADDY_ADMIN") ||
			strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s is %v, error %v", address, at, err)
		}
	}
}

func TestAdminErrorsNameTheAddress(t *testing.T) {
	err := findAdmin("", "", "/nowhere/admin.sock").unreachable(errors.New("refused"))
	for _, word := range []string{"localhost:2019", "/nowhere/admin.sock", "CADDY_ADMIN", "--address", "refused"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %s", err, word)
		}
	}
	request := &url.Error{Op: "Get", URL: "http://localhost/edgerelay/groups?limit=1", Err: errors.New("refused")}
	if err = findAdmin("", "", "").unreachable(request); strings.Contains(err.Error(), "limit=1") {
		t.Errorf("%q shows the URL of the request", err)
	}
	err = findAdmin("unix//run/x.sock", "", "").unreachable(fmt.Errorf("dial: %w", fs.ErrPermission))
	if !strings.Contains(err.Error(), "root") {
		t.Errorf("%q does not name the remedy", err)
	}
}

// An error of several lines, such as of a configuration with two faults, is one line without replaced characters.
func TestAdminErrorsAreALine(t *testing.T) {
	err := &adminError{status: 422, message: "config.a is missing\nconfig.b is \x1b[31mred"}
	if got, want := err.Error(), "config.a is missing; config.b is \ufffd[31mred (HTTP 422)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A plugin's log lines do not control the operator's terminal.
func TestLogsAreSafeOnATerminal(t *testing.T) {
	var out bytes.Buffer
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	lines := []plugins.LogLine{{Time: at, Level: slog.LevelWarn, Text: "\x1b[2Jone\r\n\ttwo\rthree\n"}}
	if err := printLogs(&out, lines); err != nil {
		t.Fatal(err)
	}
	want := "2026-01-02T03:04:05.000Z WARN  \ufffd[2Jone\n\ttwo\ufffdthree\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// Errors show no user and no password, also of a text that is no valid URL.
func TestWithoutUser(t *testing.T) {
	for text, want := range map[string]string{
		"localhost:2019": "localhost:2019", "unix/@edgerelay": "unix/@edgerelay",
		"wss://host/path@x": "wss://host/path@x", "user:pw@host:1": "[redacted]@host:1",
		"wss://user:pw@host/": "wss://[redacted]@host/", "wss://user:p/w@host/": "wss://[redacted]@host/",
		"wss://us@er:pw@host/": "wss://[redacted]@host/",
	} {
		if got := withoutUser(text); got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}
