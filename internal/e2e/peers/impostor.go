package peers

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// HangUp is the reply of an Impostor that closes the connection.
const HangUp = "hang up"

// StartImpostor starts a proxy to a Redis that imitates incompatible servers. For each command, in upper case, a result
// of reply that is not empty replaces the reply of the server. It returns the address to connect to. The impostor ends
// with the test.
func StartImpostor(t testing.TB, redisAddr string, reply func(command string) string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", testkit.Loopback(testkit.FreePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp4", redisAddr)
			if err != nil {
				_ = in.Close()
				continue
			}
			t.Cleanup(func() { _, _ = in.Close(), out.Close() })
			running.Go(func() {
				_, _ = io.Copy(in, out)
				_ = in.Close()
			})
			running.Go(func() {
				defer func() { _, _ = in.Close(), out.Close() }()
				impersonate(in, out, reply)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// impersonate forwards commands or replies in place of the server. The order of replies is kept only because clients
// wait for the relevant replies before the next command.
func impersonate(in, out net.Conn, reply func(command string) string) {
	r := bufio.NewReader(in)
	for {
		raw, command, err := readCommand(r)
		if err != nil {
			return
		}
		switch own := reply(command); own {
		case "":
			_, err = out.Write(raw)
		case HangUp:
			return
		default:
			_, err = io.WriteString(in, own+"\r\n")
		}
		if err != nil {
			return
		}
	}
}

// readCommand reads one command and returns its bytes and its text.
func readCommand(r *bufio.Reader) (raw []byte, command string, err error) {
	line := func() (int, error) {
		text, err := r.ReadString('\n')
		raw = append(raw, text...)
		if err != nil || len(text) < 4 {
			return 0, fmt.Errorf("no command: %q %w", text, err)
		}
		return strconv.Atoi(strings.TrimSpace(text[1:]))
	}
	n, err := line()
	if err != nil {
		return nil, "", err
	}
	var words []string
	for range n {
		size, err := line()
		if err != nil {
			return nil, "", err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(r, word); err != nil {
			return nil, "", err
		}
		raw = append(raw, word...)
		words = append(words, strings.ToUpper(string(word[:size])))
	}
	return raw, strings.Join(words, " "), nil
}
