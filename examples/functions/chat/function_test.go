package main

import (
	"strings"
	"testing"
	"time"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

// host is a relay with a route /ws/chat/{room}/.
func host() *edgerelay.Host {
	h := &edgerelay.Host{Grants: []string{"clock"}, Joins: []string{"chat_*"}, Publishes: []string{"chat_*"}}
	h.SetTime(time.UnixMilli(1_767_323_045_000))
	return h
}

func room(name string) edgerelay.Handshake {
	return edgerelay.Handshake{Param: map[string]string{"room": name}}
}

func TestMessageReachesItsRoom(t *testing.T) {
	h := host()
	alice := h.Connect(room("lobby"))
	if !alice.Accepted || len(alice.Groups) != 1 || alice.Groups[0] != "chat_lobby" {
		t.Fatalf("alice: %+v", alice)
	}
	if err := alice.Text(`{"message": "hello \"bob\""}`); err != nil {
		t.Fatal(err)
	}
	want := edgerelay.Publication{Group: "chat_lobby", Type: "chat.message", Payload: `{"message":"hello \"bob\""}`}
	if len(h.Published) != 1 || h.Published[0] != want {
		t.Errorf("published %+v, want %+v", h.Published, want)
	}
}

func TestOtherMessagesAreIgnored(t *testing.T) {
	h := host()
	alice := h.Connect(room("lobby"))
	long := `{"message": "` + strings.Repeat("x", maxMessage+1) + `"}`
	for _, text := range []string{"no JSON", `{"text": "hello"}`, long} {
		if err := alice.Text(text); err != nil || len(h.Published) != 0 {
			t.Errorf("%.40s: %v, published %v", text, err, h.Published)
		}
	}
}

func TestInvalidRoomIsRejected(t *testing.T) {
	if c := host().Connect(room("a b")); c.Accepted || c.Status != 403 {
		t.Errorf("accepted %v with status %d", c.Accepted, c.Status)
	}
}

func TestFloodingClientIsDisconnected(t *testing.T) {
	h := host()
	alice := h.Connect(room("lobby"))
	for second := range 3 {
		for range maxPerSecond {
			if err := alice.Text(`{"message": "again"}`); err != nil || alice.Closed != nil {
				t.Fatalf("second %d: %v, closed %v", second, err, alice.Closed)
			}
		}
		h.Advance(time.Second)
	}
	for range maxPerSecond + 1 {
		_ = alice.Text(`{"message": "too much"}`)
	}
	if alice.Closed == nil || alice.Closed.Code != 1008 {
		t.Errorf("closed %+v, want the code 1008", alice.Closed)
	}
}
