package node

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"path"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/presence"
	"github.com/edgerelay/edgerelay/relay/presence/webhook"
)

const (
	// presenceCloseTimeout bounds the time for releasing this node's users when the relay stops, or leaves a channel
	// layer.
	presenceCloseTimeout = 2 * time.Second
	// presenceListTimeout bounds the time that a client's first frame waits for the list.
	presenceListTimeout = 2 * time.Second
)

// PresenceConfig has the settings that the presence of all routes of a configuration shares.
type PresenceConfig struct {
	// Webhooks have different IDs.
	Webhooks []*webhook.Hook
}

// AddWebhook adds a webhook, and returns the one to use: two routes may have the same.
func (c *PresenceConfig) AddWebhook(hook *webhook.Hook) *webhook.Hook {
	for _, other := range c.Webhooks {
		if other.ID() == hook.ID() {
			return other
		}
	}
	c.Webhooks = append(c.Webhooks, hook)
	return hook
}

// Presence is this node's part in the presence of routes. While no route has presence, it does nothing.
type Presence struct {
	node *Node

	mu      sync.RWMutex // guards all below; held for writing while the tracker is replaced
	tracker *presence.Tracker
	broker  relay.Broker // of the tracker
	hooks   []*webhook.Hook
}

// Tracker returns the tracker, nil while no route has presence.
func (p *Presence) Tracker() *presence.Tracker {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.tracker
}

// Webhooks returns the current webhooks.
func (p *Presence) Webhooks() []*webhook.Hook {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.hooks
}

// apply makes a configuration current. With another channel layer, the users move there. nil ends presence.
func (p *Presence) apply(c *PresenceConfig) {
	if former := p.replace(c); former != nil {
		p.closeTracker(former)
	}
}

// replace makes a configuration current, and returns the tracker that is no longer used, nil if there is none.
func (p *Presence) replace(c *PresenceConfig) *presence.Tracker {
	broker := p.node.Hub.Broker()
	p.mu.Lock()
	defer p.mu.Unlock()
	former := p.tracker
	switch {
	case c == nil:
		p.tracker, p.broker, p.hooks = nil, nil, nil
	case former != nil && p.broker == broker:
		p.hooks = c.Webhooks
		former.SetWebhooks(asWebhooks(c.Webhooks))
		return nil
	default:
		p.tracker, p.broker, p.hooks = p.newTracker(broker, c), broker, c.Webhooks
		if former != nil {
			former.Each(p.tracker.Enter)
		}
	}
	return former
}

func asWebhooks(hooks []*webhook.Hook) (list []presence.Webhook) {
	for _, h := range hooks {
		list = append(list, h)
	}
	return list
}

func (p *Presence) newTracker(broker relay.Broker, c *PresenceConfig) *presence.Tracker {
	var store presence.Store
	if scripts, ok := broker.(relay.ScriptRunner); ok {
		store = presence.NewRedis(scripts, presence.Times{})
	} else {
		store = presence.NewMemory(presence.Times{}, nil)
	}
	return presence.New(presence.Settings{
		Store: store, Webhooks: asWebhooks(c.Webhooks), Log: p.node.Log,
		Publish: func(ctx context.Context, m relay.Message) error {
			_, err := p.node.Hub.PublishMessage(ctx, m)
			return err
		},
	})
}

// closeTracker releases this node's users.
func (p *Presence) closeTracker(t *presence.Tracker) {
	ctx, cancel := context.WithTimeout(context.Background(), presenceCloseTimeout)
	defer cancel()
	if err := t.Close(ctx); err != nil {
		p.node.Log.Warn("presence not left, users time out", "error", err)
	}
}

// close releases this node's users before the node stops.
func (p *Presence) close() {
	p.mu.Lock()
	former := p.tracker
	p.tracker = nil
	p.mu.Unlock()
	if former != nil {
		p.closeTracker(former)
	}
}

// RoutePresence is the presence of a route. It implements channels.Presence.
type RoutePresence struct {
	Presence *Presence
	Policy   presence.Policy
	// Groups are patterns of the groups that have presence; empty: all groups of the route.
	Groups []string
	// Info returns a JSON object about a user, or an empty text.
	Info func(id relay.Identity) string
}

var connectionSeed = maphash.MakeSeed()

// memberOf returns the user and the connection of a session. A client without a user's id is a user of its own.
func memberOf(s relay.Session) (user string, c presence.Connection) {
	sender := s.Sender()
	if user = s.Identity().ID; user == "" || s.Identity().Key == "" {
		quoted, _ := json.Marshal(sender)
		user = string(quoted)
	}
	return user, presence.Connection(maphash.String(connectionSeed, sender))
}

// has reports whether a group has presence.
func (r *RoutePresence) has(group string) bool {
	for _, pattern := range r.Groups {
		if ok, _ := path.Match(pattern, group); ok {
			return true
		}
	}
	return len(r.Groups) == 0
}

// Entered implements channels.Presence.
func (r *RoutePresence) Entered(s relay.Session, groups []string) {
	p := r.Presence
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.tracker == nil {
		return
	}
	user, c := memberOf(s)
	info := r.Info(s.Identity())
	for _, g := range groups {
		key := presence.Key{Group: g, User: user}
		if r.has(g) {
			p.tracker.Enter(key, c, info, &r.Policy)
		} else { // former settings may have had the group
			p.tracker.Leave(key, c)
		}
	}
}

// Left implements channels.Presence.
func (r *RoutePresence) Left(s relay.Session, groups []string) {
	p := r.Presence
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.tracker == nil {
		return
	}
	user, c := memberOf(s)
	for _, g := range groups {
		p.tracker.Leave(presence.Key{Group: g, User: user}, c)
	}
}

// maxFirstUsers bounds the users in a first frame of a route that announces none.
const maxFirstUsers = 100

// FirstFrame returns the list of the groups that have presence, as JSON. A group whose list cannot be read is null.
func (r *RoutePresence) FirstFrame(groups []string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), presenceListTimeout)
	defer cancel()
	limit := r.Policy.AnnounceUpTo
	if limit == 0 {
		limit = maxFirstUsers
	}
	t := r.Presence.Tracker()
	frame := append([]byte(nil), `{"presence": {`...)
	separator := ""
	for _, g := range groups {
		if !r.has(g) {
			continue
		}
		frame = append(frame, separator+`"`+g+`": `...)
		separator = ", "
		if t == nil {
			frame = append(frame, "null"...)
			continue
		}
		list, err := t.List(ctx, g, limit)
		if err != nil {
			p := r.Presence.node
			p.Log.Warn("presence not listed", "group", g, "error", err, "remedy", "check the channel layer")
			frame = append(frame, "null"...)
			continue
		}
		frame = list.AppendJSON(frame)
	}
	return append(frame, "}}"...)
}
