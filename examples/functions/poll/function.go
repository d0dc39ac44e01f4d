// Command poll is an edge function for a live poll. Votes are in the shared store, so all nodes count together, and
// each user has one vote.
package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
	"github.com/edgerelay/edgerelay/sdk/go/function"
)

const (
	maxOptions = 12
	// boxes is the number of values that a poll's votes are divided among. A value of 64 KiB holds about 5,000 votes, and
	// a call may make 16 requests.
	boxes = 8
	// kept is how long a poll lasts after its last vote, in milliseconds.
	kept = 30 * 24 * 3_600_000
	// maxTries bounds the attempts of a vote, each of which another vote in the same box may prevent.
	maxTries = 30
)

var options int // of the poll

func init() {
	function.OnInit(setup)
	function.OnConnect(enter)
	function.OnMessage(vote)
	function.OnResult("show", show)
	function.OnResult("cast", cast)
	function.OnResult("counted", counted)
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
	if err := c.Join("poll_" + poll); err != nil {
		return edgerelay.AdmitIf(err)
	}
	// Without a login, each connection has a vote.
	voter := "connection " + c.ID()
	if user, _ := c.Text("user_key"); user != "" {
		voter = "user " + user
	}
	if err := c.SetAttachment(edgerelay.Object("poll", poll, "voter", voter)); err != nil {
		return edgerelay.AdmitIf(err)
	}
	for i := range boxes {
		box := strconv.Itoa(i)
		if err := edgerelay.Shared.Get(key(poll, box), edgerelay.Then("show", box)); err != nil {
			return edgerelay.AdmitIf(err)
		}
	}
	return edgerelay.AdmitIf(c.Send(`{"poll":` + string(edgerelay.Config()) + `}`))
}

// key is the key of a ballot box. Its value is the votes by option, such as 3,0,1, a blank, and the ballots. One swap
// adds a ballot and counts it, so no failure comes between the two.
func key(poll, box string) string { return "box " + poll + " " + box }

// ballotLength is that of a ballot: the voter's mark, and a letter for the option.
const ballotLength = 13

// place returns the box of a client's ballot, and the client's mark.
func place(c *edgerelay.Client) (box, mark string) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.AttachmentText("voter")))
	sum := h.Sum64()
	return strconv.FormatUint(sum%boxes, 10), fmt.Sprintf("%012x", sum>>16)
}

// choice returns the option of a mark in a box.
func choice(value, mark string) (option string, ok bool) {
	_, ballots, _ := strings.Cut(value, " ")
	for ; len(ballots) >= ballotLength; ballots = ballots[ballotLength:] {
		if ballots[:ballotLength-1] == mark {
			return strconv.Itoa(int(ballots[ballotLength-1] - 'a')), true
		}
	}
	return "", false
}

// votesIn returns the votes by option in a box.
func votesIn(value string) []string {
	list, _, _ := strings.Cut(value, " ")
	votes := strings.Split(list, ",")
	for len(votes) < options {
		votes = append(votes, "0")
	}
	if votes[0] == "" {
		votes[0] = "0"
	}
	return votes
}

// add returns a box with another ballot, and its votes.
func add(value, mark string, option int) (next, votes string) {
	list := votesIn(value)
	n, _ := strconv.Atoi(list[option])
	list[option] = strconv.Itoa(n + 1)
	_, ballots, _ := strings.Cut(value, " ")
	votes = strings.Join(list, ",")
	return votes + " " + ballots + mark + string(rune('a'+option)), votes
}

// show tells a new page the votes in a box, and a client that comes back its choice.
func show(c *edgerelay.Client, r *edgerelay.Response) error {
	if err := r.Err(); err != nil {
		return err
	}
	if err := c.Send(count(r.Context, strings.Join(votesIn(r.String()), ","))); err != nil {
		return err
	}
	if box, mark := place(c); box == r.Context {
		if option, ok := choice(r.String(), mark); ok {
			return c.Send(`{"mine":` + option + `}`)
		}
	}
	return nil
}

// vote reads the box of the client.
func vote(c *edgerelay.Client, m *edgerelay.Message) error {
	n, ok := m.Int("vote")
	if !ok || n < 0 || n >= int64(options) {
		return nil // no option of the poll
	}
	box, _ := place(c)
	return edgerelay.Shared.Get(key(c.AttachmentText("poll"), box),
		edgerelay.Then("cast", edgerelay.Object("option", strconv.FormatInt(n, 10))))
}

// cast puts the client's ballot into its box, if there is none yet.
func cast(c *edgerelay.Client, r *edgerelay.Response) error {
	text, _ := edgerelay.TextAt(r.Context, "option")
	option, err := strconv.Atoi(text)
	if err != nil || option >= options { // the options have changed meanwhile
		return nil
	}
	tries, _ := edgerelay.TextAt(r.Context, "tries")
	n, _ := strconv.Atoi(tries)
	if r.Err() != nil || n >= maxTries {
		return c.Send(`{"error":"the vote is not counted; try again"}`)
	}
	box, mark := place(c)
	if mine, ok := choice(r.String(), mark); ok {
		return c.Send(`{"mine":` + mine + `}`)
	}
	next, votes := add(r.String(), mark, option)
	return edgerelay.Shared.Swap(key(c.AttachmentText("poll"), box), r.String(), next, kept, edgerelay.Then("counted",
		edgerelay.Object("option", text, "votes", votes, "tries", strconv.Itoa(n+1))))
}

// counted tells all pages of the poll. If another vote came first, the ballot is cast into the box as it is now.
func counted(c *edgerelay.Client, r *edgerelay.Response) error {
	if r.Conflict() || r.Err() != nil {
		return cast(c, r)
	}
	option, _ := edgerelay.TextAt(r.Context, "option")
	votes, _ := edgerelay.TextAt(r.Context, "votes")
	if err := c.Send(`{"mine":` + option + `}`); err != nil && err != edgerelay.ErrNoClient {
		return err
	}
	box, _ := place(c)
	return c.Publish("poll_"+c.AttachmentText("poll"), count(box, votes))
}

// count is a frame with the votes in a box. They only grow, so a page keeps the largest ones that it has seen.
func count(box, votes string) string { return `{"box":` + box + `,"votes":[` + votes + `]}` }

func main() {}
