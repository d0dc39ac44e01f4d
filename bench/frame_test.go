//go:build linux

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestParseFrameOfEveryLength(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 100_000} {
		payload := bytes.Repeat([]byte("a"), n)
		whole := appendServerFrame(nil, opText, payload)
		f, length, err := parseFrame(append(whole, "next"...))
		if err != nil || length != len(whole) || f.op != opText || !bytes.Equal(f.payload, payload) {
			t.Errorf("%d bytes: op %d, length %d of %d, error %v", n, f.op, length, len(whole), err)
		}
		for _, cut := range []int{0, 1, 2, 3, 9, len(whole) - 1} {
			if cut >= len(whole) {
				continue
			}
			if _, length, err := parseFrame(whole[:cut]); length != 0 || err != nil {
				t.Errorf("%d bytes cut at %d: length %d, error %v, want to wait for more", n, cut, length, err)
			}
		}
	}
}

func TestParseFrameRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"masked":              {appendClientFrame(nil, opText, []byte("x")), errMasked},
		"first of a fragment": {[]byte{opText, 1, 'x'}, errFragmented},
		"continuation":        {[]byte{0x80, 1, 'x'}, errFragmented},
		"huge":                {[]byte{0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0}, errHuge},
	} {
		if _, _, err := parseFrame(c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(appendServerFrame(nil, opText, []byte("hello")))
	f.Add(appendServerFrame(nil, opClose, []byte(strings.Repeat("b", 300))))
	f.Add([]byte{0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, n, err := parseFrame(b)
		if n < 0 || n > len(b) || err != nil && n != 0 {
			t.Fatalf("length %d of %d bytes, error %v", n, len(b), err)
		}
		if n > 0 && !bytes.HasSuffix(b[:n], frame.payload) {
			t.Fatalf("payload %q is not the end of the frame %q", frame.payload, b[:n])
		}
	})
}

func TestEventsComeBack(t *testing.T) {
	s := newSource()
	s.resize(300)
	for i := range int64(3) {
		b := s.event()
		seq, micros, ok := parseEvent(b)
		if !ok || seq != firstSeq+i || micros < 1e15 || len(b) != 300 {
			t.Errorf("event %d: seq %d, time %d, %v, %d bytes", i, seq, micros, ok, len(b))
		}
	}
	if seq, micros, ok := parseEvent([]byte(`{"pad": "x", "t": 1700000000000000, "seq": 1000000007}`)); !ok ||
		seq != 1000000007 || micros != 1700000000000000 {
		t.Errorf("re-encoded event: %d, %d, %v", seq, micros, ok)
	}
	for _, other := range []string{`{"accept": true, "user": 1}`, ``, `{"seq":10000000xx,"t":1700000000000000,"pad":""}`, `[]`} {
		if _, _, ok := parseEvent([]byte(other)); ok {
			t.Errorf("%q passes for an event", other)
		}
	}
}
