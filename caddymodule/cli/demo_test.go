package cli

import (
	"net"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// The demo does not share the port of another Caddy, whose listeners have SO_REUSEPORT.
func TestDemoNeedsAFreePort(t *testing.T) {
	addr := caddy.NetworkAddress{Network: "tcp", Host: "127.0.0.1"}
	l, err := addr.Listen(t.Context(), 0, net.ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	listener := l.(net.Listener)
	port := listener.Addr().(*net.TCPAddr).Port
	err = (&demoSettings{port: port}).run()
	if err == nil || !strings.Contains(err.Error(), "set --port") {
		t.Errorf("error %v, want one with the remedy", err)
	}
	err = checkAdminFree(listener.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "set --admin") {
		t.Errorf("admin API: error %v, want one with the remedy", err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := checkFree(listener.Addr().String(), "--port"); err != nil {
		t.Errorf("a free port: %v", err)
	}
}

// The demo runs without an admin API.
func TestDemoWithoutAdmin(t *testing.T) {
	if err := checkAdminFree("off"); err != nil {
		t.Error(err)
	}
	if text := (&demoSettings{port: 1, admin: "off"}).caddyfile("p.wasm"); !strings.Contains(text, `admin "off"`) {
		t.Errorf("no admin off in\n%s", text)
	}
}
