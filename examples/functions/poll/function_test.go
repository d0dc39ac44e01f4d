package main

import (
	"slices"
	"strings"
	"testing"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

const config = `{"question": "Tea?", "options": ["yes", "no"]}`

func host() *edgerelay.Host {
	return &edgerelay.Host{
		Config: config, Grants: []string{"shared"}, Joins: []string{"poll_*"}, Publishes: []string{"poll_*"},
	}
}

func poll(user string) edgerelay.Handshake {
	h := edgerelay.Handshake{Param: map[string]string{"poll": "tea"}}
	if user != "" {
		h.User, h.UserKey = []byte(`{"username":"`+user+`"}`), user
	}
	return h
}

func expect(t *testing.T, c *edgerelay.TestClient, want ...string) {
	t.Helper()
	if got := c.Received(); !slices.Equal(got, want) || c.Err != nil {
		t.Errorf("%s got %q, want %q (%v)", c.ID, got, want, c.Err)
	}
}

func TestVotesReachAllPages(t *testing.T) {
	h := host()
	alice, bob := h.Connect(poll("")), h.Connect(poll(""))
	begin := []string{`{"poll":` + config + `}`, `{"option":0,"votes":0}`, `{"option":1,"votes":0}`}
	expect(t, alice, begin...)
	expect(t, bob, begin...)
	_ = alice.Text(`{"vote":1}`)
	expect(t, alice, `{"mine":1}`, `{"option":1,"votes":1}`)
	expect(t, bob, `{"option":1,"votes":1}`)
	_ = bob.Text(`{"vote":1}`)
	expect(t, alice, `{"option":1,"votes":2}`)
	late := h.Connect(poll(""))
	expect(t, late, begin[0], begin[1], `{"option":1,"votes":2}`)
}

func TestEachUserHasOneVote(t *testing.T) {
	h := host()
	alice := h.Connect(poll("alice"))
	_ = alice.Text(`{"vote":0}`)
	_ = alice.Text(`{"vote":1}`)
	again := h.Connect(poll("alice"))
	again.Received()
	_ = again.Text(`{"vote":1}`)
	expect(t, again, `{"mine":0}`)
	late := h.Connect(poll("bob"))
	expect(t, late, `{"poll":`+config+`}`, `{"option":0,"votes":1}`, `{"option":1,"votes":0}`)
}

// TestVoteOfClientThatLeft: the vote counts even if the client does not wait for it.
func TestVoteOfClientThatLeft(t *testing.T) {
	h := host()
	alice, bob := h.Connect(poll("")), h.Connect(poll(""))
	bob.Received()
	h.HoldResponses = true
	_ = alice.Text(`{"vote":0}`)
	_ = alice.Disconnect(1001, "")
	h.Respond()
	expect(t, bob, `{"option":0,"votes":1}`)
}

func TestOtherMessagesAreIgnored(t *testing.T) {
	h := host()
	alice := h.Connect(poll(""))
	alice.Received()
	for _, text := range []string{"no JSON", `{"vote":2}`, `{"vote":-1}`, `{"vote":"yes"}`, `{}`} {
		if err := alice.Text(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		expect(t, alice)
	}
}

func TestWrongSettings(t *testing.T) {
	many := `{"options": [` + strings.Repeat(`"x",`, maxOptions) + `"x"]}`
	for _, config := range []string{`null`, `{"options": ["one"]}`, many} {
		if err := (&edgerelay.Host{Config: config}).Init(setup); err == nil {
			t.Errorf("%s is accepted", config)
		}
	}
}
