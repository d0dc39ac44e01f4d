// Package awx speaks AWX's client protocol, which its browser code uses on /websocket/.
package awx

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
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

// Client answers the messages of one logged-in browser. It is the Handler of package ws.
type Client struct {
	*Shared
	Session *hub.Session
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

// Ended closes the session: the connection has ended.
func (c *Client) Ended() { c.Session.Close() }

// Message answers a message.
func (c *Client) Message(text bool, message []byte) {
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
		c.Log.Info("a client's message is refused: its xrftoken is not the csrftoken cookie of the handshake", "user",
			c.Session.Identity().Name, "address", relay.AddressText(c.Session.Address()))
		return errDenied
	}
	if !m.asks {
		return nil
	}
	wishes, fault := m.wishes()
	asked, which := distinct(wishes)
	if limit := c.Hub.Limits().GroupsPerConnection; limit > 0 && len(asked) > limit {
		return relay.TooManyGroupsError{Wanted: len(asked), Limit: limit}
	}
	vouched := c.authorize(asked)
	if slices.ContainsFunc(asked, func(s standing) bool { return errors.Is(s.err, relay.ErrExpired) }) {
		c.Session.Socket().Close(relay.CloseRestart, relay.RenewReason)
		return nil
	}
	groups, classes := c.admitted(asked, which)
	if fault != nil {
		return fault
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinWait)
	defer cancel()
	subscribe := c.Hub.SubscribeAs
	if vouched {
		subscribe = c.Hub.Keep
	}
	change, err := subscribe(ctx, c.Session, groups, classes)
	switch {
	case errors.As(err, new(relay.TooManyGroupsError)):
		return err
	case err != nil:
		// The subscription stands and takes effect as soon as the layer is back: the client need not know.
		c.Log.Warn("the channel layer has not taken a subscription in time; events arrive once it does", "groups", change.Joined, "error", err)
	}
	c.Session.SendChange(change, GroupsFrame)
	return nil
}

// standing is what was found out about a wish: the client's class in the group, or why it may not see it.
type standing struct {
	wish
	class uint8
	err   error
}

// distinct returns the wishes, each once, and for each of wishes which of them it is.
func distinct(wishes []wish) (once []standing, which []int) {
	const few = 16 // which are sooner compared than put into a map
	once, which = make([]standing, 0, len(wishes)), make([]int, len(wishes))
	var seen map[wish]int
	if len(wishes) > few {
		seen = make(map[wish]int, len(wishes))
	}
	for i, w := range wishes {
		at := -1
		if seen == nil {
			at = slices.IndexFunc(once, func(s standing) bool { return s.wish == w })
		} else if n, ok := seen[w]; ok {
			at = n
		}
		if at < 0 {
			at = len(once)
			once = append(once, standing{wish: w})
			if seen != nil {
				seen[w] = at
			}
		}
		which[i] = at
	}
	return once, which
}

// authorize finds out for each of asked whether the client may see its group. It reports whether the groups are vouched
// for, so that the client may keep those that it has and join no other.
func (c *Client) authorize(asked []standing) (vouched bool) {
	ctx, cancel := context.WithTimeout(context.Background(), authorizeWait)
	defer cancel()
	if c.Trace != nil {
		asking, end := c.Trace(ctx, len(asked))
		ctx = asking
		defer func() { end(count(asked)) }()
	}
	groups := make([]string, len(asked))
	for i := range asked {
		groups[i] = asked[i].group()
	}
	vouched = c.Hub.Vouches(c.Session, groups)
	if len(asked) == 1 {
		c.ask(ctx, &asked[0], vouched)
		return vouched
	}
	slots := make(chan struct{}, authorizeAtOnce)
	var asking sync.WaitGroup
	for i := range asked {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			c.ask(ctx, &asked[i], vouched)
		})
	}
	asking.Wait()
	return vouched
}

// ask finds it out for one. A group that is vouched for, see Hub.Vouches, is not asked about; plugins still
// classify the client.
func (c *Client) ask(ctx context.Context, s *standing, vouched bool) {
	id, group := c.Session.Identity(), s.group()
	switch rechecker, _ := c.Hub.Authorizer().(relay.GroupRechecker); {
	case group == BroadcastGroup:
		s.err = relay.ErrDenied
	case vouched && rechecker != nil && rechecker.Rechecks(group):
		s.err = nil
	default:
		s.err = c.Hub.Authorizer().Authorize(ctx, id, s.kind, s.item)
	}
	if s.err == nil {
		s.class, s.err = c.Hub.Classify(ctx, id, group)
	}
}

// count returns how many wishes are denied, and of how many it could not be found out.
func count(asked []standing) (denied, failed int) {
	for _, s := range asked {
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
func (c *Client) admitted(asked []standing, which []int) (groups []string, classes []uint8) {
	groups, classes = make([]string, 0, len(asked)), make([]uint8, 0, len(asked))
	held := make(map[string]bool, len(asked))
	told, most := 0, c.Hub.Limits().GroupsPerConnection
	for _, i := range which {
		w, err := asked[i].wish, asked[i].err
		if err == nil {
			c.Stats.Allowed.Add(1)
			if g := w.group(); !held[g] {
				held[g] = true
				groups, classes = append(groups, g), append(classes, asked[i].class)
			}
			continue
		}
		switch {
		case errors.Is(err, relay.ErrOtherUser):
			c.Stats.OtherUser.Add(1)
		case errors.Is(err, relay.ErrDenied):
			c.Stats.Denied.Add(1)
		default:
			c.Stats.Failed.Add(1)
		}
		if told++; most > 0 && told > most {
			continue
		}
		switch {
		case err == relay.ErrDenied, errors.Is(err, relay.ErrOtherUser):
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
			c.Log.Info("a client sends too many messages; its websocket is closed", "user", c.Session.Identity().Name,
				"address", relay.AddressText(c.Session.Address()), "messages_a_second", rate)
		}
		c.Session.Socket().Close(relay.ClosePolicy, "too many messages")
		return false
	}
	c.Session.Send(errorFrame(fmt.Sprintf("too many messages: at most %g a second", rate)))
	return false
}
