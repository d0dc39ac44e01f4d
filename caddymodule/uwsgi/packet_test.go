package uwsgi

import (
	"strings"
	"testing"
)

func TestPacket(t *testing.T) {
	p := newPacket(5, 7)
	p.add("A", "bc")
	p.addInt("LENGTH", -12)
	p.add("EMPTY", "")
	want := "\x05\x1d\x00\x07" + "\x01\x00A\x02\x00bc" + "\x06\x00LENGTH\x03\x00-12" + "\x05\x00EMPTY\x00\x00"
	if got := string(p.bytes()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPacketIsBounded(t *testing.T) {
	p := newPacket(0, 0)
	p.add("A", strings.Repeat("x", 65535-5))
	if !p.fits(0) || p.fits(1) {
		t.Errorf("%d bytes: fits(0) %t, fits(1) %t", len(p.b), p.fits(0), p.fits(1))
	}
	if b := p.bytes(); len(b) != 65539 || b[1] != 0xff || b[2] != 0xff {
		t.Errorf("%d bytes, size %x %x", len(b), b[1], b[2])
	}
	p.add("B", "")
	if p.fits(0) {
		t.Error("a variable that did not fit is not noticed")
	}
}
