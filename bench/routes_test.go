//go:build linux

package main

import (
	"fmt"
	"testing"
)

// Both forms of a message for a route hold the event that clients count.
func TestMessagesOfRoutes(t *testing.T) {
	src := newSource()
	src.resize(300)
	event := src.event()
	seq, micros, pad := splitEvent(event)
	if got := fmt.Sprintf(`{"seq":%d,"t":%d,"pad":"%s"}`, seq, micros, pad); got != string(event) {
		t.Errorf("split into %s, want %s", got, event)
	}
	spaced := fmt.Appendf(nil, `{"seq": %d, "t": %d, "pad": "%s"}`, seq, micros, pad)
	if s, m, ok := parseSpaced(spaced); !ok || s != int64(seq) || m != int64(micros) {
		t.Errorf("parsed %s as %d, %d, %v", spaced, s, m, ok)
	}
	for form, n := range map[messageForm]byte{awxMessage: 1, eventMember: 1, eventMembers: 3} {
		if got, packed := form.members(event); got != n || len(packed) < len(event)/2 {
			t.Errorf("form %d has %d members in %d bytes", form, got, len(packed))
		}
	}
}
