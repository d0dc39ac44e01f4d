package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

const hello = "GET /websocket/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: csrftoken=t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

// What misbehaving clients do to a running relay: it stays well for the others, and when they have gone it holds no
// more goroutines, files and memory than before.
func TestSiege(t *testing.T) {
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, `{
	admin {$ADMIN}
	persist_config off
	edgerelay {
		channel_layer redis `+redis.URL+`
		auth none
		limits {
			connections_per_user 0
		}
	}
}
{$SITE} {
	bind 127.0.0.1
	edgerelay
	respond "next"
}
`)
	s := &siege{t: t, relay: r, redis: redis, addr: strings.TrimPrefix(r.URL, "http://")}
	s.well()
	before := s.usage()
	calm := func(t *testing.T) {
		t.Helper()
		s.well()
		var now usage
		// Half a minute: the kernel and the slow clients' close frames take their time.
		testkit.EventuallyWithin(t, 60*time.Second, "the relay holds what it held before", func() error {
			now = s.usage()
			if now.goroutines > before.goroutines+20 || now.files > before.files+20 || now.heap > before.heap+24<<20 {
				return fmt.Errorf("%+v, before %+v", now, before)
			}
			return nil
		})
		t.Logf("%+v", now)
	}
	attack := func(name string, f func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			s.t = t
			f(t)
			calm(t)
			s.t = t
		})
	}

	attack("half-open handshakes", func(t *testing.T) {
		conns := make([]*attacker, 3000)
		s.many(len(conns), func(i int) (err error) {
			if conns[i], err = s.connect(); err != nil {
				return err
			}
			_, err = io.WriteString(conns[i], hello[:20+i%100])
			return err
		})
		s.well()
		s.many(len(conns), func(i int) error { return conns[i].Close() })
	})
	attack("giant headers", func(t *testing.T) {
		s.many(20, func(int) error {
			a, err := s.connect()
			if err != nil {
				return err
			}
			defer a.Close()
			junk := "X-Junk: " + strings.Repeat("x", 8000) + "\r\n"
			_, _ = io.WriteString(a, strings.TrimSuffix(hello, "\r\n")+strings.Repeat(junk, 300)+"\r\n") // may be cut off in the middle
			resp, err := http.ReadResponse(a.r, nil)
			if err == nil && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				return errors.New(resp.Status)
			}
			return nil
		})
	})
	attack("a request behind the handshake", func(t *testing.T) {
		s.many(200, func(int) error {
			a, err := s.shake("GET /edgerelay/publish HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
			if err != nil {
				return err
			}
			defer a.Close()
			code, err := a.closeCode()
			if err == nil && code != 1002 {
				err = fmt.Errorf("closed with %d", code)
			}
			return err
		})
	})
	attack("frames of 2^63 bytes", func(t *testing.T) {
		s.many(200, func(i int) error {
			a, err := s.shake(string([]byte{
				0x81, 0xff, byte(0x7f + i%2), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,
				0, 0, 0,
			}))
			if err != nil {
				return err
			}
			defer a.Close()
			if _, err := io.WriteString(a, strings.Repeat("x", 100<<10)); err != nil {
				return nil // cut off
			}
			_, _ = io.Copy(io.Discard, a.r) // until the relay ends it, in whatever way
			return nil
		})
	})
	attack("empty fragments", func(t *testing.T) {
		a, err := s.shake("")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		_, err = io.WriteString(a, masked(0x01, "")+strings.Repeat(masked(0x00, ""), 1_000_000))
		t.Logf("ended by %v", err) // cut off
		s.well()
		if now := s.usage(); now.heap > before.heap+16<<20 {
			t.Errorf("%+v in a message of a million empty fragments, before %+v", now, before)
		}
	})
	attack("pings without end", func(t *testing.T) {
		a, err := s.shake("")
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		_ = a.SetWriteDeadline(time.Now().Add(10 * time.Second))
		// The answers are not read: at some point the relay has enough.
		_, err = io.WriteString(a, strings.Repeat(masked(0x89, strings.Repeat("p", 125)), 200_000))
		t.Logf("ended by %v", err)
		s.well()
		if now := s.usage(); now.heap > before.heap+16<<20 {
			t.Errorf("%+v, before %+v", now, before)
		}
	})
	attack("a hundred thousand groups", func(t *testing.T) {
		conns := make([]*attacker, 1000)
		s.many(len(conns), func(i int) (err error) {
			var list []string
			for n := range 100 {
				list = append(list, strconv.Itoa(100*i+n))
			}
			conns[i], err = s.shake(masked(0x81,
				`{"groups": {"flood": [`+strings.Join(list, ",")+`]}, "xrftoken": "t"}`))
			if err != nil {
				return err
			}
			_, payload, err := conns[i].next()
			if err == nil && !strings.HasPrefix(string(payload), `{"groups_current"`) {
				err = fmt.Errorf("answered %.100s", payload)
			}
			return err
		})
		if n := redis.Do("DBSIZE").(int64); n < 100_000 {
			t.Errorf("%d keys in Redis", n)
		}
		s.many(len(conns), func(i int) error { return conns[i].Close() })
		testkit.Eventually(t, "the groups are left", func() error {
			if n := redis.Do("DBSIZE").(int64); n > 3 { // the layer's identity and the nodes' signs of life
				return fmt.Errorf("%d keys", n)
			}
			return nil
		})
	})
	attack("clients that never read", func(t *testing.T) {
		conns := make([]*attacker, 1000)
		s.many(len(conns), func(i int) (err error) {
			conns[i], err = s.shake(masked(0x81, `{"groups": {"loud": [1]}, "xrftoken": "t"}`))
			if err == nil {
				_, _, err = conns[i].next()
			}
			return err
		})
		event := `{"group": "loud-1", "data": "` + strings.Repeat("x", 256<<10) + `"}`
		for range 30 {
			resp, err := http.Post(r.Admin+"/edgerelay/publish", "application/json", strings.NewReader(event))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		s.well()
		t.Logf("while they do not read: %+v", s.usage())
		s.many(len(conns), func(i int) error { return conns[i].Close() })
	})
	attack("half-closed", func(t *testing.T) {
		s.many(1000, func(int) error {
			a, err := s.shake("")
			if err != nil {
				return err
			}
			defer a.Close()
			if err := a.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, a.r) // the relay ends it
			return err
		})
	})
	attack("coming and going", func(t *testing.T) {
		s.many(10_000, func(i int) error {
			a, err := s.shake("")
			if err != nil {
				return err
			}
			if i%2 == 0 { // as a killed process whose data is not read: a reset
				_ = a.Conn.(*net.TCPConn).SetLinger(0)
			} else if i%3 == 0 {
				_, _ = io.WriteString(a, masked(0x88, "\x03\xe8"))
			}
			return a.Close()
		})
	})
}
