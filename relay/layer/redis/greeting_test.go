package redis_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

// Servers and proxies that do not know HELLO, or CLIENT TRACKING, each in its own words: events come anyway, by polling
// where it must be, and whatever a server says only for a moment is asked again.
func TestGreetings(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	r.Do("ACL", "SETUSER", "relay", "on", ">secret", "~*", "&*", "+@all")
	always := func(command, reply string) func(string, int64) string {
		return func(asked string, _ int64) string {
			if strings.HasPrefix(asked, command) {
				return reply
			}
			return ""
		}
	}
	twice := func(command, reply string) func(string, int64) string {
		return func(asked string, n int64) string {
			if strings.HasPrefix(asked, command) && n <= 2 {
				return reply
			}
			return ""
		}
	}
	for _, c := range []struct {
		name     string
		reply    func(command string, n int64) string // to the n-th command of that name
		notifies bool
	}{
		{"Redis", func(string, int64) string { return "" }, true},
		{"unknown command", always("HELLO", "-ERR unknown command 'HELLO'"), false},
		{"unsupported", always("HELLO", "-ERR unsupported command 'hello'"), false},
		{"Envoy", always("HELLO", "-unsupported command 'hello'"), false},
		{"no words", always("HELLO", "-ERR"), false},
		{"NOPROTO", always("HELLO", "-NOPROTO unsupported protocol version"), false},
		{"hangs up", always("HELLO", peers.HangUp), false},
		{"BUSY at HELLO", twice("HELLO", "-BUSY Redis is busy running a script"), true},
		{"LOADING at HELLO", twice("HELLO", "-LOADING Redis is loading the dataset in memory"), true},
		{"too many clients", twice("HELLO", "-ERR max number of clients reached"), true},
		{"BUSY", twice("CLIENT TRACKING", "-BUSY Redis is busy running a script"), true},
		{"LOADING", twice("CLIENT TRACKING", "-LOADING Redis is loading the dataset in memory"), true},
		{"MASTERDOWN", twice("CLIENT TRACKING", "-MASTERDOWN Link with MASTER is down"), true},
		{"READONLY", twice("CLIENT TRACKING", "-READONLY You can't write against a read only replica."), true},
		{"no tracking", always("CLIENT TRACKING", "-ERR unknown subcommand 'TRACKING'"), false},
		{"forbidden", always("CLIENT TRACKING", "-NOPERM this user has no permissions"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var hellos, tracks atomic.Int64
			addr := peers.StartImpostor(t, r.Addr, func(command string) string {
				n := int64(0)
				if strings.HasPrefix(command, "HELLO") {
					n = hellos.Add(1)
				} else if strings.HasPrefix(command, "CLIENT TRACKING") {
					n = tracks.Add(1)
				}
				return c.reply(command, n)
			})
			s := settings()
			s.URLs = []string{"redis://relay:secret@" + addr + "/0"}
			s.Prefix = "asgi-" + strings.ReplaceAll(c.name, " ", "-")
			b, sink := start(t, s, "g")
			testkit.Eventually(t, "health", func() bool { return b.Health().OK })
			testkit.Eventually(t, "an event", func() bool {
				_, err := b.Publish(t.Context(), "g", []byte("x"))
				return err == nil && len(sink.Texts("g")) > 0
			})
			if got := b.Notified(0); got != c.notifies {
				t.Errorf("notified of changes: %v, want %v", got, c.notifies)
			}
		})
	}
}

// A wrong password is told as such, and not hidden behind a protocol.
func TestWrongPasswordIsReported(t *testing.T) {
	t.Parallel()
	r := peers.StartRedis(t)
	r.Do("ACL", "SETUSER", "relay", "on", ">secret", "~*", "&*", "+@all")
	r.Do("ACL", "SETUSER", "default", "off")
	for url, want := range map[string]string{
		"redis://relay:wrong@" + r.Addr: "WRONGPASS",
		"redis://" + r.Addr:             "NOAUTH",
	} {
		s := settings()
		s.URLs = []string{url}
		b := newBroker(t, s)
		if err := b.Start(&relaytest.Sink{}); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, want, func() bool { return strings.Contains(b.Health().Detail, want) })
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = b.Close(ctx)
	}
}
