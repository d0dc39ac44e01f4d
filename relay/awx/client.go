// Package awx speaks AWX's side of the relay: the client protocol that its browser code uses on
// /websocket/, and the questions to its HTTP API about who a user is and what that user may see.
package awx

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// joinWait is how long the answer to a subscription waits for the channel layer.
	joinWait = 5 * time.Second
	// authorizeWait bounds the questions to the authorizer for one message. With joinWait it stays well below the time
	// after which a client whose frames nobody reads is taken for dead.
	authorizeWait = 15 * time.Second
	// authorizeAtOnce is how many of them one client may have under way.
	authorizeAtOnce = 8
	// burstSeconds is for how many seconds' worth of messages a client may save up.
	burstSeconds = 5
	// BroadcastGroup carries a copy of every event between nodes (AWX settings, BROADCAST_WEBSOCKET_GROUP_NAME). No client may join it.
	BroadcastGroup = "broadcast-group_send"
)

// Messages is where a client's messages come from.
type Messages interface {
	// Read returns the next message and whether it is text; an error once there are no more.
	Read() (text bool, message []byte, err error)
}

// Client serves the websocket of one logged-in browser.
type Client struct {
	*Shared
	Session *relay.Session
	// Token is the csrftoken cookie of the handshake; without one every message is refused.
	Token string
	// Trace, if not nil, gives the questions about the groups of one message a context, and is told how they ended.
	Trace func(ctx context.Context, groups int) (asking context.Context, end func(denied, failed int))

	budget  float64 // messages that the client may send now
	counted time.Time
	second  int64 // the Unix second in which refused were refused
	refused int
}

// Greeting is the first frame that a client gets, encoded: it is logged in.
func Greeting(id relay.Identity) []byte { return relay.AppendFrame(nil, acceptFrame(id.ID)) }

// Serve answers the client's messages until the connection ends, and closes the session. The goroutine that it
// runs on lives as long as the client, and should have done nothing before: its stack stays as large as it ever was.
func (c *Client) Serve(messages Messages) {
	defer c.Session.Close()
	answered := make(chan struct{})
	for {
		text, message, err := messages.Read()
		if err != nil {
			return
		}
		go func() { // reading JSON takes a deep stack
			c.answer(text, message)
			answered <- struct{}{}
		}()
		<-answered
	}
}

// answer deals with one message.
func (c *Client) answer(text bool, message []byte) {
	if !c.allowed(time.Now()) {
		return
	}
	err := c.handle(text, message)
	if err == nil {
		c.Stats.Taken.Add(1)
	} else {
		c.Stats.Refused.Add(1)
		c.Session.Send(errorFrame(err.Error()))
	}
}

// errDenied is AWX's answer to a wrong or missing token.
var errDenied = errors.New("access denied to channel")

// handle answers one message, or returns the error to answer it with.
func (c *Client) handle(text bool, raw []byte) error {
	if !text {
		return errors.New("a message must be a text frame")
	}
	m, err := parseMessage(raw)
	if err != nil {
		return err
	}
	if c.Token == "" || subtle.ConstantTimeCompare([]byte(m.token), []byte(c.Token)) != 1 {
		c.Log.Info("a client's message is refused: its xrftoken is not the csrftoken cookie of the handshake", "user", c.Session.Identity().Name, "address", c.Session.Address().String())
		return errDenied
	}
	if !m.asks {
		return nil
	}
	wishes, fault := m.wishes()
	allowed := map[wish]standing{}
	for _, w := range wishes {
		allowed[w] = standing{}
	}
	if limit := c.Hub.Limits().GroupsPerConnection; limit > 0 && len(allowed) > limit {
		return relay.TooManyGroupsError{Wanted: len(allowed), Limit: limit}
	}
	c.authorize(allowed)
	groups, classes := c.admitted(wishes, allowed)
	if fault != nil {
		return fault
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinWait)
	defer cancel()
	change, err := c.Hub.SubscribeAs(ctx, c.Session, groups, classes)
	switch {
	case errors.As(err, new(relay.TooManyGroupsError)):
		return err
	case err != nil:
		// The subscription stands and takes effect as soon as the layer is back: the client need not know.
		c.Log.Warn("the channel layer has not taken a subscription in time; events arrive once it does", "groups", change.Joined, "error", err)
	}
	c.Session.Send(groupsFrame(change))
	return nil
}

// standing is what was found out about a wish: the client's class in the group, or why it may not see it.
type standing struct {
	class uint8
	err   error
}

// authorize finds out for each wish whether the client may see its group.
func (c *Client) authorize(wishes map[wish]standing) {
	ctx, cancel := context.WithTimeout(context.Background(), authorizeWait)
	defer cancel()
	if c.Trace != nil {
		asking, end := c.Trace(ctx, len(wishes))
		ctx = asking
		defer func() { end(count(wishes)) }()
	}
	id, auth := c.Session.Identity(), c.Hub.Authorizer()
	var mu sync.Mutex // guards wishes
	ask := func(w wish) {
		a := standing{err: relay.ErrDenied}
		if w.group() != BroadcastGroup {
			a.err = auth.Authorize(ctx, id, w.kind, w.item)
		}
		if a.err == nil {
			a.class, a.err = c.Hub.Classify(ctx, id, w.group())
		}
		mu.Lock()
		defer mu.Unlock()
		wishes[w] = a
	}
	slots := make(chan struct{}, authorizeAtOnce)
	var asking sync.WaitGroup
	list := slices.Collect(maps.Keys(wishes))
	for i, w := range list {
		if i == len(list)-1 { // nothing else is to be done meanwhile
			ask(w)
			break
		}
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			ask(w)
		})
	}
	asking.Wait()
}

// count returns how many wishes are denied, and of how many it could not be found out.
func count(wishes map[wish]standing) (denied, failed int) {
	for _, s := range wishes {
		switch {
		case errors.Is(s.err, relay.ErrDenied):
			denied++
		case s.err != nil:
			failed++
		}
	}
	return denied, failed
}

// admitted returns the groups that the client may see, each once, with its classes in them, and tells it of the others, each time
// that it asked for one; but not more often than it may have groups, or a short message could ask for ten thousand answers.
func (c *Client) admitted(wishes []wish, allowed map[wish]standing) (groups []string, classes []uint8) {
	groups, classes = make([]string, 0, len(wishes)), make([]uint8, 0, len(wishes))
	held := make(map[string]bool, len(wishes))
	told, most := 0, c.Hub.Limits().GroupsPerConnection
	for _, w := range wishes {
		err := allowed[w].err
		if err == nil {
			c.Stats.Allowed.Add(1)
			if g := w.group(); !held[g] {
				held[g] = true
				groups, classes = append(groups, g), append(classes, allowed[w].class)
			}
			continue
		}
		if errors.Is(err, relay.ErrDenied) {
			c.Stats.Denied.Add(1)
		} else {
			c.Stats.Failed.Add(1)
		}
		if told++; most > 0 && told > most {
			continue
		}
		switch {
		case err == relay.ErrDenied:
			c.Log.Debug("a subscription is denied", "user", c.Session.Identity().Name, "group", w.group(), "reason", err)
		case errors.Is(err, relay.ErrDenied): // with a reason, by a plugin
			c.Log.Info("a subscription is denied", "user", c.Session.Identity().Name, "group", w.group(), "reason", err)
		default:
			c.Log.Error("could not find out whether a user may see a group; refused", "user", c.Session.Identity().Name, "group", w.group(), "error", err)
		}
		c.Session.Send(errorFrame(fmt.Sprintf("access denied to channel %s for resource id %s", w.kind, w.item)))
	}
	return groups, classes
}

// allowed counts a message against the rate limit, and answers it with an error if it is one too many. A client that goes on
// regardless is closed.
func (c *Client) allowed(now time.Time) bool {
	rate := c.Hub.Limits().SubscribeRate
	if rate <= 0 {
		return true
	}
	most := max(rate*burstSeconds, 1)
	if c.counted.IsZero() {
		c.budget = most
	}
	c.budget = min(most, c.budget+rate*now.Sub(c.counted).Seconds())
	c.counted = now
	if c.budget >= 1 {
		c.budget--
		return true
	}
	if now.Unix() != c.second {
		c.second, c.refused = now.Unix(), 0
	}
	c.Stats.TooMany.Add(1)
	if c.refused++; float64(c.refused) > 2*most {
		if c.refused == int(2*most)+1 {
			c.Stats.Flooded.Add(1)
			c.Log.Info("a client sends too many messages; its websocket is closed", "user", c.Session.Identity().Name, "address", c.Session.Address().String(), "messages_a_second", rate)
		}
		c.Session.Socket().Close(relay.ClosePolicy, "too many messages")
		return false
	}
	c.Session.Send(errorFrame(fmt.Sprintf("too many messages: at most %g a second", rate)))
	return false
}
