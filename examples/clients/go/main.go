// Command go is a client that misses nothing, for tests and services. It prints events, and whether some are missing:
//
//	COOKIE='awx_sessionid=…; csrftoken=…' go run ./examples/clients/go wss://awx.example.com/websocket/ job_events-42
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// frame is any frame of the relay.
type frame struct {
	Accept, Close, Recovered                   bool
	Type, Group, Position, Reason, Text, Error string
	Groups                                     []string
	Events                                     int
	Event                                      json.RawMessage
}

// client follows groups, which are as in the protocol: {"job_events": ["42"]}. It calls tell with "subscribed" and a
// group; with "event" and an event; with "recovered" and a count after a lost connection; and with "gap" and a reason
// where events are missing.
type client struct {
	url, cookie, token string
	groups             map[string][]string
	tell               func(what, group, value string)

	seen    map[string][]string // by group: the last positions, oldest first
	replays map[string]*frame   // by group: the frame "subscribed", until its Events have come
	came    map[string]int      // by group: the fresh events of the replay
}

// fresh notes a position, and reports whether it is new.
func (c *client) fresh(group, position string) bool {
	known := position != "" && slices.Contains(c.seen[group], position)
	if position != "" && !known {
		positions := append(c.seen[group], position)
		c.seen[group] = positions[max(0, len(positions)-1000):]
	}
	return !known
}

// connect serves one connection to its end, and reports whether a subscription began.
func (c *client) connect(ctx context.Context) (begun bool, err error) {
	conn, resp, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{
		Subprotocols: []string{"edgerelay.events.v1"}, HTTPHeader: http.Header{"Cookie": {c.cookie}},
	})
	if resp != nil && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden) {
		log.Fatal(err)
	}
	if err != nil {
		return false, err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go keepAlive(ctx, conn)
	clear(c.replays)
	for {
		var f frame
		if err := wsjson.Read(ctx, conn, &f); err != nil {
			return begun, err
		}
		switch {
		case f.Type != "":
			begun = true
			c.take(&f)
		case f.Close || f.Error != "":
			log.Fatal("rejected: ", cmp.Or(f.Error, "not logged in"))
		case f.Accept:
			since := map[string][]string{}
			for group, positions := range c.seen {
				since[group] = positions[max(0, len(positions)-100):]
			}
			request := map[string]any{"groups": c.groups, "xrftoken": c.token, "since": since}
			if err := wsjson.Write(ctx, conn, request); err != nil {
				return begun, err
			}
		}
	}
}

// keepAlive ends a connection whose other end does not answer any more.
func keepAlive(ctx context.Context, conn *websocket.Conn) {
	for ctx.Err() == nil {
		time.Sleep(20 * time.Second)
		ping, cancel := context.WithTimeout(ctx, 10*time.Second)
		if conn.Ping(ping) != nil {
			_ = conn.CloseNow()
		}
		cancel()
	}
}

// take handles a frame of the subprotocol.
func (c *client) take(f *frame) {
	switch f.Type {
	case "subscribed":
		c.tell("subscribed", f.Group, "")
		if _, again := c.seen[f.Group]; again && !f.Recovered {
			c.tell("gap", f.Group, cmp.Or(f.Reason, "no_history"))
		}
		c.seen[f.Group] = append([]string{}, c.seen[f.Group]...)
		c.replays[f.Group], c.came[f.Group] = f, 0
	case "event":
		if c.fresh(f.Group, f.Position) {
			c.came[f.Group]++
			c.tell("event", f.Group, cmp.Or(string(f.Event), f.Text))
		}
		if r := c.replays[f.Group]; r != nil {
			r.Events--
		}
	case "withheld":
		if c.fresh(f.Group, f.Position) {
			c.tell("gap", f.Group, "withheld")
		}
	case "gap":
		for group := range c.seen {
			if len(f.Groups) == 0 || slices.Contains(f.Groups, group) {
				c.fresh(group, f.Position)
				c.tell("gap", group, f.Reason)
			}
		}
	}
	if r := c.replays[f.Group]; r != nil && r.Events <= 0 { // complete: its position counts from here on
		delete(c.replays, f.Group)
		c.fresh(f.Group, r.Position)
		if r.Recovered {
			c.tell("recovered", f.Group, fmt.Sprint(c.came[f.Group]))
		}
	}
}

func main() {
	c := &client{
		url: os.Args[1], cookie: cmp.Or(os.Getenv("COOKIE"), "csrftoken=any"), groups: map[string][]string{},
		tell: func(what, group, value string) { fmt.Println(what, group, value) },
		seen: map[string][]string{}, replays: map[string]*frame{}, came: map[string]int{},
	}
	for _, name := range os.Args[2:] {
		kind, item, _ := strings.Cut(name, "-")
		c.groups[kind] = append(c.groups[kind], item)
	}
	cookies, err := http.ParseCookie(c.cookie)
	if err != nil {
		log.Fatal("COOKIE: ", err)
	}
	for _, cookie := range cookies {
		if cookie.Name == "csrftoken" {
			c.token = cookie.Value
		}
	}
	for failures := 0; ; failures++ {
		begun, err := c.connect(context.Background())
		if log.Print("connection lost: ", err); begun {
			failures = 0
		}
		time.Sleep(rand.N(min(30*time.Second, 500*time.Millisecond<<min(failures, 6)))) // not all clients at once
	}
}
