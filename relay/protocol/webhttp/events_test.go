package webhttp

import (
	"reflect"
	"strings"
	"testing"
)

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       []event
	}{
		{"nothing", "", nil},
		{"open", "OPEN\r\n", []event{{"OPEN", nil}}},
		{"empty content", "TEXT 0\r\n\r\n", []event{{"TEXT", []byte{}}}},
		{"content with line ends", "TEXT 4\r\na\r\nb\r\n", []event{{"TEXT", []byte("a\r\nb")}}},
		{
			"several", "OPEN\r\nTEXT 5\r\nm:abc\r\nBINARY B\r\n0123456789a\r\nCLOSE 2\r\n\x03\xe8\r\n",
			[]event{{"OPEN", nil}, {"TEXT", []byte("m:abc")}, {"BINARY", []byte("0123456789a")}, {"CLOSE", []byte{3, 232}}},
		},
		{"unknown type", "SMOKE 1\r\nx\r\n", []event{{"SMOKE", []byte("x")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseEvents([]byte(c.body))
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Fatalf("%q: %v, %v; want %v", c.body, got, err, c.want)
			}
			var again []byte
			for _, e := range got {
				again = appendEvent(again, e.kind, e.content)
			}
			if !strings.EqualFold(string(again), c.body) {
				t.Errorf("encoded %q, want %q", again, c.body)
			}
		})
	}
}

func TestMalformedEvents(t *testing.T) {
	for _, body := range []string{
		"OPEN", "OPEN\n", "\r\n", " 1\r\nx\r\n", "TEXT 2\r\nx\r\n", "TEXT 1\r\nxy\r\n", "TEXT 1\r\nx", "TEXT -1\r\n\r\n",
		"TEXT +1\r\nx\r\n", "TEXT 0x1\r\nx\r\n", "TEXT \r\n\r\n", "TEXT fffffffff\r\nx\r\n", "TEXT 7fffffff\r\nx\r\n",
		"<!DOCTYPE html>\r\n<html>", strings.Repeat("x", 33) + "\r\n", strings.Repeat("PING\r\n", maxEvents+1),
	} {
		if events, err := parseEvents([]byte(body)); err == nil {
			t.Errorf("%.60q: %d events, want an error", body, len(events))
		}
	}
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte("OPEN\r\nTEXT 5\r\nm:abc\r\nCLOSE 2\r\n\x03\xe8\r\n"))
	f.Add([]byte("TEXT 0\r\n\r\nPING\r\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		events, err := parseEvents(body)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range events {
			again = appendEvent(again, e.kind, e.content)
		}
		second, err := parseEvents(again)
		if err != nil || !reflect.DeepEqual(events, second) {
			t.Fatalf("%q: %v became %q: %v, %v", body, events, again, second, err)
		}
	})
}
