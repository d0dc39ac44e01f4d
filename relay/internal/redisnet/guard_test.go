package redisnet

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// A host that claims to send more than there is memory costs its connection and nothing else.
func TestRepliesThatClaimGigabytes(t *testing.T) {
	for _, reply := range []string{
		"*9223372036854775807\r\n", "*2147483647\r\n", "%4294967296\r\n", "~99999999\r\n", ">1073741824\r\n",
		"$2147483647\r\nabc", "$9223372036854775800\r\n", "=1000000000\r\ntxt:", "!1000000000\r\n",
		"*1\r\n*99999999\r\n", "*2\r\n$1\r\n*\r\n*99999999\r\n",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = conn.Close() }()
					buf := make([]byte, 4096)
					for {
						if _, err := conn.Read(buf); err != nil {
							return
						}
						if _, err := conn.Write([]byte(reply)); err != nil {
							return
						}
					}
				}()
			}
		}()
		o := &goredis.Options{
			Addr: l.Addr().String(), MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, Protocol: 2,
			ReadTimeout: 2 * time.Second,
		}
		o.Dialer = guarded(goredis.NewDialer(o), nil)
		client := goredis.NewClient(o)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := client.ZRange(ctx, "key", 0, -1).Err(); !errors.Is(err, errClaim) {
			t.Errorf("%q: %v", reply, err)
		}
		cancel()
		_ = client.Close()
		_ = l.Close()
	}
}

func TestSoundReplies(t *testing.T) {
	for _, reply := range []string{
		"+OK 99999999999999999999\r\n", "-ERR 99999999999\r\n", ":9223372036854775807\r\n",
		"(99999999999999999999999\r\n", ",1e99999999\r\n", "$-1\r\n", "*-1\r\n", "$12\r\n*9999999999\n\r\n+OK\r\n",
		"*2\r\n$3\r\n$99\r\n$4\r\n*999\r\n", "_\r\n#t\r\n", "$0\r\n\r\n$0\r\n\r\n",
	} {
		for piece := 1; piece < 8; piece++ {
			var c claims
			for part := range slices.Chunk([]byte(strings.Repeat(reply, 3)), piece) {
				if !c.sound(part) {
					t.Errorf("%q is refused in pieces of %d", reply, piece)
				}
			}
			if c.kind != 0 || c.skip != 0 {
				t.Errorf("%q: the end is not seen: %+v", reply, c)
			}
		}
	}
}

// FuzzClaims holds the verdict on a stream in pieces to that on the whole, and to what the reader of the draining
// connection takes.
func FuzzClaims(f *testing.F) {
	for _, s := range []string{
		"*2\r\n$3\r\nabc\r\n$1\r\n1\r\n", "$-1\r\n*99999999999\r\n", "$12\r\n*9999999999\n\r\n",
		"%1\r\n+a\r\n:1\r\n", "\r\n\r\n$99999999\r\n",
	} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		var whole, cut claims
		want := whole.sound(b)
		got := true
		for part := range slices.Chunk(b, int(piece)+1) {
			got = got && cut.sound(part)
		}
		if got != want {
			t.Errorf("%q: %v, in pieces of %d: %v", b, want, int(piece)+1, got)
		}
	})
}

// Where HELLO ends in what a client writes.
func TestHelloLength(t *testing.T) {
	for in, want := range map[string]int{
		"*2\r\n$5\r\nhello\r\n$1\r\n3\r\n":                     22,
		"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*1\r\n$4\r\nPING\r\n": 22,
		"*1\r\n$4\r\nPING\r\n*2\r\n$5\r\nhello\r\n$1\r\n3\r\n": 0,
		"*3\r\n$5\r\nhello\r\n$1\r\n3\r\n":                     0,
		"*2\r\n$5\r\nhello\r\n$99\r\n3\r\n":                    0,
		"*2\r\n$5\r\nhello\r\n$-1\r\n":                         0,
		"*0\r\n":                                               0,
		"*-1\r\n":                                              0,
		"hello\r\n":                                            0,
		"":                                                     0,
		"*1\r\n$5\r\nhello\r\n":                                15,
		"*1\r\n$9223372036854775807\r\nhello\r\n":              0,
		"*99999999999\r\n$5\r\nhello\r\n":                      0,
		"*4\r\n$5\r\nhello\r\n$1\r\n3\r\n$4\r\nauth\r\n$1\r\n\n\r\n": 39,
	} {
		if got := helloLength([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
}

func FuzzHelloLength(f *testing.F) {
	f.Add([]byte("*2\r\n$5\r\nhello\r\n$1\r\n3\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := helloLength(b); n < 0 || n > len(b) {
			t.Errorf("%q: %d", b, n)
		}
	})
}
