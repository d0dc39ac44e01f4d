package uwsgi

import (
	"bytes"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestParseHead(t *testing.T) {
	for _, c := range []struct {
		name, text string
		status     int
		header     http.Header
		rest       string
	}{
		{
			"uWSGI", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nbody", 200,
			http.Header{"Content-Type": {"text/plain"}},
			"body",
		},
		{"no reason", "HTTP/1.0 404\r\n\r\n", 404, http.Header{}, ""},
		{"HTTP/2.0, as a client's request had it", "HTTP/2.0 201 Created\r\n\r\n", 201, http.Header{}, ""},
		{"line feeds alone", "HTTP/1.1 200 OK\nA: b\n\nrest", 200, http.Header{"A": {"b"}}, "rest"},
		{
			"repeated header", "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\r\n", 200,
			http.Header{"Set-Cookie": {"a=1", "b=2"}},
			"",
		},
		{"empty value", "HTTP/1.1 200 OK\r\nA:\r\n\r\n", 200, http.Header{"A": {""}}, ""},
		{"bytes beyond ASCII", "HTTP/1.1 200 OK\r\nA: \xe4\r\n\r\n", 200, http.Header{"A": {"\xe4"}}, ""},
		{"status twice", "HTTP/1.1 204 No Content\r\nStatus: 200 OK\r\n\r\n", 204, http.Header{}, ""},
		{"CGI", "Status: 403 Forbidden\r\nA: b\r\n\r\n", 403, http.Header{"A": {"b"}}, ""},
		{"CGI without a status", "A: b\r\n\r\n", 200, http.Header{"A": {"b"}}, ""},
		{"CGI with a location", "Location: /x\r\n\r\n", 302, http.Header{"Location": {"/x"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, size, err := parseHead([]byte(c.text))
			if err != nil || h.status != c.status || !reflect.DeepEqual(h.header, c.header) || c.text[size:] != c.rest {
				t.Errorf("%q: got %d %v, rest %q (%v)", c.text, h.status, h.header, c.text[size:], err)
			}
			for cut := range len(c.text) - len(c.rest) {
				if _, size, err := parseHead([]byte(c.text[:cut])); size != 0 || err != nil {
					t.Errorf("%q: got size %d (%v), want more to be awaited", c.text[:cut], size, err)
				}
			}
		})
	}
}

func TestMalformedHeads(t *testing.T) {
	for _, text := range []string{
		"\r\n\r\n", "garbage\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 099 OK\r\n\r\n", "HTTP/x 200 OK\r\n\r\n", "HTTP/1.1 -20 OK\r\n\r\n",
		"HTTP/1.1 200 O\x00K\r\n\r\n", "HTTP/1.1 200 OK\r\nA\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
		"Status: none\r\n\r\n", "A b: c\r\n\r\n",
	} {
		if h, _, err := parseHead([]byte(text)); err == nil {
			t.Errorf("%q: got %d %v, want an error", text, h.status, h.header)
		}
	}
}

func TestFraming(t *testing.T) {
	for _, c := range []struct {
		headers string
		chunked bool
		length  int64
		fails   bool
	}{
		{"", false, -1, false},
		{"Content-Length: 5", false, 5, false},
		{"Content-Length: 0", false, 0, false},
		{"Content-Length: 5\r\nContent-Length: 5", false, 5, false},
		{"Content-Length: 5\r\nContent-Length: 6", false, 0, true},
		{"Content-Length: 5, 5", false, 0, true},
		{"Content-Length: -1", false, 0, true},
		{"Content-Length: +1", false, 0, true},
		{"Content-Length: 0x1", false, 0, true},
		{"Content-Length:", false, 0, true},
		{"Content-Length: 9223372036854775808", false, 0, true},
		{"Transfer-Encoding: chunked", true, -1, false},
		{"Transfer-Encoding: Chunked\r\nContent-Length: 5", true, -1, false},
		{"Transfer-Encoding: gzip, chunked", false, 0, true},
		{"Transfer-Encoding: identity", false, 0, true},
	} {
		h, size, err := parseHead([]byte("HTTP/1.1 200 OK\r\n" + strings.TrimPrefix(c.headers+"\r\n\r\n", "\r\n")))
		if err != nil || size == 0 {
			t.Fatalf("%q: %v", c.headers, err)
		}
		chunked, length, err := h.framing()
		if (err != nil) != c.fails || err == nil && (chunked != c.chunked || length != c.length) {
			t.Errorf("%q: got %t, %d (%v)", c.headers, chunked, length, err)
		}
	}
}

// FuzzResponse parses arbitrary output of a worker. An accepted head must be valid for a client, and a head without its
// last byte must be incomplete.
func FuzzResponse(f *testing.F) {
	for _, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "Status: 404 Not Found\r\n\r\n",
		"HTTP/1.1 200 OK\nA: b\n\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"Location: /\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "HTTP/1.1 200\r\nX-Accel-Buffering: no\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, size, err := parseHead(b)
		if size > len(b) || err != nil && size != 0 {
			t.Fatalf("size %d of %d (%v)", size, len(b), err)
		}
		if err != nil || size == 0 {
			return
		}
		if h.status < 100 || h.status > 999 {
			t.Errorf("status %d", h.status)
		}
		var again bytes.Buffer
		if err := h.header.Write(&again); err != nil {
			t.Error(err)
		}
		if lines := strings.Count(again.String(), "\n"); lines != fields(h.header) {
			t.Errorf("%d fields became %d lines: %q", fields(h.header), lines, again.String())
		}
		if _, _, err := h.framing(); err != nil {
			return
		}
		if _, shorter, err := parseHead(b[:size-1]); shorter != 0 || err != nil {
			t.Errorf("without its last byte the head is %d bytes long (%v)", shorter, err)
		}
	})
}

func fields(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}
