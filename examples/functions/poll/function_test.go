package main

import (
	"encoding/json"
	"fmt"
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

// page shows the frames of a client, as the page of the example does.
type page struct {
	boxes [boxes][]int
	mine  int // -1 without a choice
}

func frames(t *testing.T, p *page, c *edgerelay.TestClient) {
	t.Helper()
	for _, frame := range c.Received() {
		var m struct {
			Box   *int
			Votes []int
			Mine  *int
			Error string
		}
		if err := json.Unmarshal([]byte(frame), &m); err != nil || m.Error != "" || c.Err != nil {
			t.Fatalf("%s got %s (%v, %v)", c.ID, frame, err, c.Err)
		}
		if m.Box != nil {
			p.boxes[*m.Box] = m.Votes
		}
		if m.Mine != nil {
			p.mine = *m.Mine
		}
	}
}

// shows compares the votes for the two options, and the client's choice, with those on its page.
func shows(t *testing.T, c *edgerelay.TestClient, pages map[*edgerelay.TestClient]*page, yes, no, mine int) {
	t.Helper()
	p := pages[c]
	if p == nil {
		p = &page{mine: -1}
		pages[c] = p
	}
	frames(t, p, c)
	votes := [2]int{}
	for _, box := range p.boxes {
		for i, n := range box {
			votes[i] += n
		}
	}
	if votes != [2]int{yes, no} || p.mine != mine {
		t.Errorf("the page of %s shows %v and the choice %d, want %d, %d and %d", c.ID, votes, p.mine, yes, no, mine)
	}
}

func TestVotesReachAllPages(t *testing.T) {
	h, pages := host(), map[*edgerelay.TestClient]*page{}
	alice, bob := h.Connect(poll("")), h.Connect(poll(""))
	shows(t, alice, pages, 0, 0, -1)
	shows(t, bob, pages, 0, 0, -1)
	_ = alice.Text(`{"vote":1}`)
	shows(t, alice, pages, 0, 1, 1)
	shows(t, bob, pages, 0, 1, -1)
	_ = bob.Text(`{"vote":1}`)
	shows(t, alice, pages, 0, 2, 1)
	shows(t, h.Connect(poll("")), pages, 0, 2, -1)
}

func TestEachUserHasOneVote(t *testing.T) {
	h, pages := host(), map[*edgerelay.TestClient]*page{}
	alice := h.Connect(poll("alice"))
	_ = alice.Text(`{"vote":0}`)
	_ = alice.Text(`{"vote":1}`)
	shows(t, alice, pages, 1, 0, 0)
	again := h.Connect(poll("alice"))
	_ = again.Text(`{"vote":1}`)
	shows(t, again, pages, 1, 0, 0)
	shows(t, h.Connect(poll("bob")), pages, 1, 0, -1)
}

// TestVotesAtTheSameTime: of votes in one box at the same time, the store takes one; the others are cast again.
func TestVotesAtTheSameTime(t *testing.T) {
	h, pages := host(), map[*edgerelay.TestClient]*page{}
	const voters = 3 * boxes // so that some share a box
	h.HoldResponses = true
	for i := range voters {
		_ = h.Connect(poll(fmt.Sprint("user ", i))).Text(`{"vote":0}`)
	}
	for range 2 * maxTries { // each round answers what waits
		h.Respond()
	}
	h.HoldResponses = false
	shows(t, h.Connect(poll("late")), pages, voters, 0, -1)
}

// TestVoteOfClientThatLeft: the vote counts even if the client does not wait for it.
func TestVoteOfClientThatLeft(t *testing.T) {
	h, pages := host(), map[*edgerelay.TestClient]*page{}
	alice, bob := h.Connect(poll("")), h.Connect(poll(""))
	h.HoldResponses = true
	_ = alice.Text(`{"vote":0}`)
	_ = alice.Disconnect(1001, "")
	for range 4 {
		h.Respond()
	}
	shows(t, bob, pages, 1, 0, -1)
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
