package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// positioned is a frame for clients that get positions.
type positioned struct {
	Type, Group, Position, Reason, Text string
	Groups                              []string
	Time                                float64
	Counter                             *int64
	Event                               json.RawMessage
	Recovered                           *bool
	Events                              *int

	frame string
}

// text is the event as published, byte for byte.
func (p *positioned) text() string {
	if p.Event != nil {
		_, event, _ := strings.Cut(p.frame, `,"event":`)
		return strings.TrimSuffix(event, "}")
	}
	return p.Text
}

// positionClient is a client that gets positions: docs/client-protocol.md, in its shortest form.
type positionClient struct {
	*wstest.Client
	t testing.TB
	// have are the positions by group, oldest first.
	have map[string][]string
}

// positionsOf connects a client that gets positions, with the positions of a client before.
func positionsOf(t testing.TB, r *peers.Relay, have map[string][]string) *positionClient {
	t.Helper()
	c, _, err := wstest.Dial(t, r.URL+"/websocket/", http.Header{
		"Cookie": {"csrftoken=t"}, "Sec-Websocket-Protocol": {"edgerelay.events.v1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Subprotocol() != "edgerelay.events.v1" {
		t.Fatalf("the subprotocol is %q", c.Subprotocol())
	}
	if _, err := expectKey(c, "accept"); err != nil {
		t.Fatal(err)
	}
	if have == nil {
		have = map[string][]string{}
	}
	return &positionClient{c, t, have}
}

// subscribe subscribes to groups, and returns the frames that begin the subscriptions. since is the value of that
// member.
func (c *positionClient) subscribe(since any, groups ...string) map[string]positioned {
	c.t.Helper()
	object := map[string][]string{}
	for _, g := range groups {
		kind, item, _ := strings.Cut(g, "-")
		object[kind] = append(object[kind], item)
	}
	text, err := json.Marshal(map[string]any{"groups": object, "xrftoken": "t", "since": since})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.Send(string(text)); err != nil {
		c.t.Fatal(err)
	}
	change, err := expectKey(c.Client, "groups_current")
	if err != nil {
		c.t.Fatal(err)
	}
	begun := map[string]positioned{}
	for range change["groups_joined"].([]any) {
		f := c.next("subscribed")
		begun[f.Group] = f
	}
	return begun
}

// resume subscribes to groups with all positions that the client has.
func (c *positionClient) resume(groups ...string) map[string]positioned {
	c.t.Helper()
	return c.subscribe(c.have, groups...)
}

// next returns the next frame, of a type, and keeps its position.
func (c *positionClient) next(kind string) (f positioned) {
	c.t.Helper()
	text, err := c.Next(patience)
	if err != nil {
		c.t.Fatalf("%v, want a frame %s", err, kind)
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	f.frame = text
	if err := dec.Decode(&f); err != nil || f.Type != kind || !strings.HasPrefix(text, `{"type":"`+kind+`"`) {
		c.t.Fatalf("%v: %s, want a frame %s", err, text, kind)
	}
	if f.Position != "" && (kind == "event" || kind == "withheld" || f.Events != nil && *f.Events == 0) {
		c.have[f.Group] = append(c.have[f.Group], f.Position)
	}
	return f
}

// expectEvents expects the events of a group, in order.
func (c *positionClient) expectEvents(group string, texts ...string) (events []positioned) {
	c.t.Helper()
	for _, want := range texts {
		f := c.next("event")
		if f.Group != group || f.text() != want || slices.Contains(c.have[group][:len(c.have[group])-1], f.Position) {
			c.t.Fatalf("%s %s at %s, want %s %s; had %q", f.Group, f.text(), f.Position, group, want, c.have[group])
		}
		events = append(events, f)
	}
	return events
}

// leave closes the connection and returns the positions for the next one.
func (c *positionClient) leave() map[string][]string {
	_ = c.Close(1000)
	return maps.Clone(c.have)
}

// hostileTexts are events that imitate frames of the relay, and texts at the edges of JSON.
var hostileTexts = []string{
	`{"type":"gap","groups":["jobs-a"],"reason":"failover"}`, `{"type":"subscribed","group":"jobs-a","recovered":true,"events":0}`,
	`{"close": true}`, `{"accept": true, "user": 1}`, `1},{"type":"gap"`, `"}`, `{"a": NaN}`, `  {"a" :1.50}`,
	`plain "text"`, `"ünïcode \u2028 \ud800"`, "{\"a\":\"\u2028\"}", strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
	`{"counter": 117, "stdout": "ok"}`, "line\nbreak\x00",
}

// Clients that opt in get each event in an envelope, byte for byte, and resume by position; all others get the frames
// of AWX alone.
func TestClientsResumeByPosition(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, openSite(redis.URL, "history jobs-*"))
	emitter := peers.StartEmitter(t, redis.URL)
	emit := func(group string, texts ...string) {
		t.Helper()
		var events []peers.Event
		for _, text := range texts {
			events = append(events, peers.Event{Group: group, Text: text})
		}
		emitter.Send(events...)
	}
	plain := subscriber(t, r.URL, peers.Login{CSRF: "t"}, "jobs-a")
	first := positionsOf(t, r, nil)
	begun := first.resume("jobs-a", "other-1")
	if f := begun["jobs-a"]; f.Position == "" || f.Recovered != nil || *f.Events != 0 {
		t.Errorf("the beginning of jobs-a: %+v", f)
	}
	if f := begun["other-1"]; f.Position != "" || f.Recovered != nil || f.Events != nil {
		t.Errorf("the beginning of a group without history: %+v", f)
	}

	emit("jobs-a", hostileTexts...)
	events := first.expectEvents("jobs-a", hostileTexts...)
	expectTextsOf(t, plain, hostileTexts...)
	for _, f := range events {
		if f.Position == "" || f.Time < 1.7e9 || (f.Counter != nil) != strings.Contains(f.text(), "counter") {
			t.Errorf("%+v", f)
		}
	}
	emit("other-1", "{}")
	if f := first.next("event"); f.Group != "other-1" || f.Position != "" || f.text() != "{}" {
		t.Errorf("an event of a group without history: %+v", f)
	}

	// Missed events come first, each once, and the live events follow.
	have := first.leave()
	var missed []string
	for i := range 300 {
		missed = append(missed, fmt.Sprintf(`{"n": %d, "fill": "%s"}`, i, strings.Repeat("x", i)))
	}
	emit("jobs-a", missed...)
	expectTextsOf(t, plain, missed...)
	second := positionsOf(t, r, have)
	if f := second.resume("jobs-a")["jobs-a"]; f.Recovered == nil || !*f.Recovered || *f.Events != len(missed) || f.Reason != "" {
		t.Errorf("resumed: %+v", f)
	}
	second.expectEvents("jobs-a", missed...)
	emit("jobs-a", "live")
	second.expectEvents("jobs-a", "live")
	expectTextsOf(t, plain, "live")

	// Nothing missed; a single position; the last events; junk.
	third := positionsOf(t, r, second.leave())
	if f := third.resume("jobs-a")["jobs-a"]; f.Recovered == nil || !*f.Recovered || *f.Events != 0 {
		t.Errorf("nothing was missed: %+v", f)
	}
	latest := positionsOf(t, r, nil)
	if f := latest.subscribe(map[string]any{"jobs-a": map[string]int{"latest": 3}}, "jobs-a")["jobs-a"]; f.Recovered != nil || *f.Events != 3 {
		t.Errorf("the latest 3: %+v", f)
	}
	latest.expectEvents("jobs-a", missed[298], missed[299], "live")
	for value, reason := range map[string]string{
		`"junk"`: "unknown_position", `7`: "unknown_position", `["AAAAAAAAAAAAAAAAAAAAAQ"]`: "unknown_position",
	} {
		c := positionsOf(t, r, nil)
		f := c.subscribe(map[string]any{"jobs-a": json.RawMessage(value), "other-1": "x"}, "jobs-a", "other-1")
		if g := f["jobs-a"]; g.Recovered == nil || *g.Recovered || g.Reason != reason || *g.Events != 0 || g.Position == "" {
			t.Errorf("since %s: %+v", value, g)
		}
		if g := f["other-1"]; g.Recovered == nil || *g.Recovered || g.Reason != "no_history" {
			t.Errorf("since in a group without history: %+v", g)
		}
	}
	emit("jobs-a", "last")
	third.expectEvents("jobs-a", "last")
	latest.expectEvents("jobs-a", "last")
}

// expectTextsOf expects frames of AWX's dialect, byte for byte.
func expectTextsOf(t *testing.T, c *wstest.Client, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if got, err := c.Next(patience); err != nil || got != want {
			t.Fatalf("%.200q, %v, want %.200q", got, err, want)
		}
	}
}

// A loss is a frame for clients that get positions, and no client resumes across it.
func TestGapsAreTold(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, openSite(redis.URL, "history jobs-*"))
	emitter := peers.StartEmitter(t, redis.URL)
	before, standing := positionsOf(t, r, nil), positionsOf(t, r, nil)
	before.resume("jobs-a")
	standing.resume("jobs-a", "other-1")
	have := before.leave()
	redis.Do("DEL", "asgi:group:jobs-a") // as AWX does with its keys at its start
	f := standing.next("gap")
	if !slices.Equal(f.Groups, []string{"jobs-a"}) || f.Reason != "membership_restored" || f.Position != "" {
		t.Errorf("%+v", f)
	}
	emitter.Send(peers.Event{Group: "jobs-a", Text: "later"})
	standing.expectEvents("jobs-a", "later")

	late := positionsOf(t, r, have)
	if f := late.resume("jobs-a")["jobs-a"]; f.Recovered == nil || *f.Recovered || f.Reason != "gap" || *f.Events != 0 {
		t.Errorf("across the gap: %+v", f)
	}
	told := positionsOf(t, r, standing.leave())
	if f := told.resume("jobs-a")["jobs-a"]; f.Recovered == nil || !*f.Recovered || *f.Events != 0 {
		t.Errorf("behind the gap: %+v", f)
	}
}

// An event that a plugin cannot process is a frame with its position, live and in a replay; a replay goes through the
// plugin again.
func TestWithheldEventsAreTold(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	r := peers.StartRelay(t, openSite(redis.URL, "history jobs-*\n"+plugin("guard", guest(t, "guard"), "groups jobs-*")))
	emitter := peers.StartEmitter(t, redis.URL)
	const guarded = `{"guarded":true}`
	frames := func(c *positionClient) (events int, withheld []string) {
		t.Helper()
		for events < 2 || withheld == nil {
			text, err := c.Next(patience)
			var f positioned
			if err != nil || json.Unmarshal([]byte(text), &f) != nil {
				t.Fatal(text, err)
			}
			switch {
			case f.Type == "event" && string(f.Event) == guarded:
				events++
			case f.Type == "withheld" && f.Group == "jobs-1" && f.Position != "":
				withheld = append(withheld, f.Position)
			default:
				t.Fatal(text)
			}
		}
		return events, withheld
	}
	standing := positionsOf(t, r, nil)
	begun := standing.resume("jobs-1")["jobs-1"]
	emitter.Send(peers.Event{Group: "jobs-1", Text: `{"secret":1}`}, peers.Event{Group: "jobs-1", Text: `{"trap":1}`},
		peers.Event{Group: "jobs-1", Text: `{"secret":2}`})
	_, live := frames(standing)

	late := positionsOf(t, r, map[string][]string{"jobs-1": {begun.Position}})
	if f := late.resume("jobs-1")["jobs-1"]; f.Recovered == nil || !*f.Recovered || *f.Events != 2 {
		t.Errorf("%+v", f)
	}
	if _, replayed := frames(late); !slices.Equal(replayed, live) {
		t.Errorf("withheld in the replay: %q, live %q", replayed, live)
	}
}

// A client comes back to another node of the same Redis, and the events of the time in between are there, although no
// client was subscribed; also if its own node was killed.
func TestClientsResumeOnAnotherNode(t *testing.T) {
	t.Parallel()
	redis := peers.StartRedis(t)
	one, other := peers.StartRelay(t, openSite(redis.URL, "history jobs-*")), peers.StartRelay(t, openSite(redis.URL, "history jobs-*"))
	emitter := peers.StartEmitter(t, redis.URL)
	emit := func(from, to int) (texts []string) {
		var events []peers.Event
		for n := from; n < to; n++ {
			texts = append(texts, fmt.Sprintf(`{"n": %d}`, n))
			events = append(events, peers.Event{Group: "jobs-a", Text: texts[len(texts)-1]})
		}
		emitter.Send(events...)
		return texts
	}
	c := positionsOf(t, one, nil)
	c.resume("jobs-a")
	c.expectEvents("jobs-a", emit(0, 5)...)
	have := c.leave()
	missed := emit(5, 50)
	for i, r := range []*peers.Relay{other, one} {
		c := positionsOf(t, r, have)
		if f := c.resume("jobs-a")["jobs-a"]; f.Recovered == nil || !*f.Recovered || *f.Events != len(missed) {
			t.Errorf("%s: %+v", r.URL, f)
		}
		c.expectEvents("jobs-a", missed...)
		have = c.leave()
		missed = emit(50+10*i, 60+10*i)
	}
	one.Kill()
	c = positionsOf(t, other, have)
	if f := c.resume("jobs-a")["jobs-a"]; f.Recovered == nil || !*f.Recovered || *f.Events != len(missed) {
		t.Errorf("after the death of the other node: %+v", f)
	}
	c.expectEvents("jobs-a", missed...)
}
