//go:build unix

package caddymodule

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A demo does not share the port of another Caddy, whose listeners have SO_REUSEPORT. A reload keeps the demo's own
// port.
func TestDemoSharesNoPort(t *testing.T) {
	s := newSite(t)
	share := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(err, failed)
	}}
	other, err := share.Listen(t.Context(), "tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	demo := s.file("auth none", "edgerelay\nedgerelay_demo")
	err = s.load(demo)
	if err == nil || !strings.Contains(err.Error(), "in use; stop the other program, or change the site's port") {
		t.Errorf("beside another program: error %v, want one with the remedy", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for _, lines := range []string{"auth none", "auth none\nhistory *"} {
		if err := s.load(s.file(lines, "edgerelay\nedgerelay_demo")); err != nil {
			t.Errorf("alone: %v", err)
		}
	}
}
