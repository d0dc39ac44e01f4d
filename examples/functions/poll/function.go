// Command poll is an edge function for a live poll. Votes are counters of the shared store, so all nodes count
// together, and each user has one vote.
package main

import (
	"errors"
	"strconv"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
	"github.com/edgerelay/edgerelay/sdk/go/function"
)

const (
	// maxOptions leaves room in a call, which may make 16 requests.
	maxOptions = 12
	// kept is how long a poll lasts after its first vote, in milliseconds.
	kept = 30 * 24 * 3_600_000
)

var options int // of the poll

func init() {
	function.OnInit(setup)
	function.OnConnect(enter)
	function.OnMessage(vote)
	function.OnResult("ballot", ballot)
	function.OnResult("tally", tally)
	function.OnResult("votes", votes)
	function.OnResult("mine", mine)
}

func setup() error {
	options = len(edgerelay.ConfigList("options"))
	if options < 2 || options > maxOptions {
		return errors.New("config: options must be a list of 2 to 12 texts")
	}
	return nil
}

// enter sends a page the question and, as the store answers, the votes so far and the client's own choice.
func enter(c *edgerelay.Connect) edgerelay.Admission {
	poll := c.Param("poll")
	if c.Join("poll_"+poll) != nil {
		return edgerelay.Reject
	}
	// Without a login, each connection has a vote.
	voter := "connection " + c.ID()
	if user, _ := c.Text("user_key"); user != "" {
		voter = "user " + user
	}
	if err := c.SetAttachment(edgerelay.Object("poll", poll, "voter", voter)); err != nil {
		return edgerelay.AdmitIf(err)
	}
	for i := range options {
		if err := edgerelay.Shared.Get(counter(poll, strconv.Itoa(i)), edgerelay.Then("votes", strconv.Itoa(i))); err != nil {
			return edgerelay.AdmitIf(err)
		}
	}
	if err := edgerelay.Shared.Get(ballotOf(poll, voter), edgerelay.Then("mine", "")); err != nil {
		return edgerelay.AdmitIf(err)
	}
	return edgerelay.AdmitIf(c.Send(`{"poll":` + string(edgerelay.Config()) + `}`))
}

// counter is the key of the votes for an option, and ballotOf that of a voter's choice.
func counter(poll, option string) string { return "votes " + poll + " " + option }
func ballotOf(poll, voter string) string { return "ballot " + poll + " " + voter }

// vote keeps the client's choice if it has none yet.
func vote(c *edgerelay.Client, m *edgerelay.Message) error {
	n, ok := m.Int("vote")
	if !ok || n < 0 || n >= int64(options) {
		return nil // no option of the poll
	}
	option := strconv.FormatInt(n, 10)
	key := ballotOf(c.AttachmentText("poll"), c.AttachmentText("voter"))
	return edgerelay.Shared.Swap(key, "", option, kept, edgerelay.Then("ballot", option))
}

// ballot counts a vote. A second vote of the client is a conflict, and changes nothing.
func ballot(c *edgerelay.Client, r *edgerelay.Response) error {
	if err := r.Err(); err != nil {
		return c.Send(`{"error":"the vote is not counted; try again"}`)
	}
	if r.Conflict() {
		return c.Send(`{"mine":` + r.String() + `}`)
	}
	poll, option := c.AttachmentText("poll"), r.Context
	if err := edgerelay.Shared.Add(counter(poll, option), 1, kept, edgerelay.Then("tally", option)); err != nil {
		return err
	}
	return c.Send(`{"mine":` + option + `}`)
}

// tally tells all pages of the poll. Counts only grow, so the largest one that a page has seen is the latest.
func tally(c *edgerelay.Client, r *edgerelay.Response) error {
	if err := r.Err(); err != nil {
		return err
	}
	return c.Publish("poll_"+c.AttachmentText("poll"), count(r.Context, r.Number()))
}

// votes tells a new page the count of an option, which is missing before the first vote.
func votes(c *edgerelay.Client, r *edgerelay.Response) error {
	if err := r.Err(); err != nil {
		return err
	}
	return c.Send(count(r.Context, r.Number()))
}

// mine tells a client that comes back its choice.
func mine(c *edgerelay.Client, r *edgerelay.Response) error {
	if r.Missing() {
		return nil
	}
	if err := r.Err(); err != nil {
		return err
	}
	return c.Send(`{"mine":` + r.String() + `}`)
}

func count(option string, votes int64) string {
	return `{"option":` + option + `,"votes":` + strconv.FormatInt(votes, 10) + `}`
}

func main() {}
