package caddymodule

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// startSocket is a uWSGI on a Unix socket that permits a group at one path, and responds with 404 at all others.
func startSocket(t *testing.T, path string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				head := make([]byte, 4)
				if _, err := io.ReadFull(c, head); err != nil {
					return
				}
				vars := make([]byte, binary.LittleEndian.Uint16(head[1:]))
				if _, err := io.ReadFull(c, vars); err != nil {
					return
				}
				if !strings.Contains(string(vars), "PATH_INFO"+string([]byte{byte(len(path)), 0})+path) {
					_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\n\r\n")
					return
				}
				body := `{"user": 7, "groups": ["room_a"]}`
				_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			}()
		}
	}()
	return socket
}

// auth http asks a path behind uWSGI's Unix socket.
func TestAuthHTTPPathBehindSocket(t *testing.T) {
	socket := startSocket(t, "/edgerelay/auth/")
	s := newSite(t)
	site := "edgerelay {\nroute /ws/{room}/ {\ngroups room_{room}\non said text text\n}\n}"
	s.mustLoad("auth http uwsgi+unix://"+socket+" /edgerelay/auth/", site)
	c := s.dialRoute("/ws/a/", http.Header{"Cookie": {"sessionid=ann"}})
	s.emit("room_a", "said", `{"text": "hello"}`)
	c.next("hello")
	for auth, want := range map[string]string{
		"auth http uwsgi+unix://" + socket + " edgerelay": "begins with /",
		"auth http http://127.0.0.1:1/a /b":               "belongs to uWSGI's socket",
		"auth http http://127.0.0.1:1/a /b /c":            "and the path of a request",
	} {
		if err := s.load(s.file(auth, site)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", auth, err, want)
		}
	}
}
