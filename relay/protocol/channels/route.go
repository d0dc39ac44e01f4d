package channels

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/edgerelay/edgerelay/relay"
)

// Close codes of routes, besides those of package relay. Codes from 4000 on are an application's own: the last three
// digits are those of the HTTP status.
const (
	// CloseUnsupported ends a client that sends a binary message where a text is expected, or the reverse.
	CloseUnsupported = 1003
	// CloseInvalid ends a client whose message is malformed.
	CloseInvalid = 1007
	// CloseFailed ends a client whose message was not published, or whose first frame could not be fetched.
	CloseFailed = 1011
	// CloseUnauthenticated ends a client that is not logged in any more.
	CloseUnauthenticated = 4401
)

// Node is the part of the engine that routes use.
type Node struct {
	Log *slog.Logger
	// Publish sends a message to its group through the channel layer.
	Publish func(ctx context.Context, m relay.Message) (relay.Receipt, error)
	// FrameSize returns the greatest length of a client's message in bytes, for routes that set none.
	FrameSize func() int
}

// Settings are the checked settings of a route. They do not change; a reload replaces them.
type Settings struct {
	rules ruleSet
	// Presence follows the clients; nil: no part does.
	Presence Presence
	// Groups are the templates of the clients' groups.
	Groups []Template
	// Messages is what becomes of the clients' messages.
	Messages Messages
	// Claims are the members of the user's profile of which granted groups are made.
	Claims []string
	// MessageRate is the number of messages that a client may send per second; 0: the relay's subscribe_rate.
	MessageRate float64
	// MessageSize is the greatest length of a client's message in bytes; 0: the relay's frame_size.
	MessageSize int
	// Connections and ConnectionsPerUser bound the open connections of the route; 0: no limit.
	Connections, ConnectionsPerUser int
	// UnauthenticatedCode is the code with which clients are closed whose login ends; 0: [CloseUnauthenticated].
	UnauthenticatedCode int
	// BackendGroup, unless nil, reports whether the backend of the messages can subscribe a client to a group.
	BackendGroup func(group string) bool
	// Applied, unless nil, is called when the settings take effect.
	Applied func()
}

// NewSettings returns settings with rules.
func NewSettings(rules []Rule) (*Settings, error) {
	set, err := compileRules(rules)
	if err != nil {
		return nil, err
	}
	return &Settings{rules: set}, nil
}

// Has reports whether a type has a rule.
func (s *Settings) Has(kind string) bool { return s.rules[kind] != nil }

// HasGroup reports whether a client of the route can be in a group: by the route, by its messages or by a backend.
func (s *Settings) HasGroup(group string) bool {
	return slices.ContainsFunc(s.Groups, func(t Template) bool { return t.Matches(group) }) ||
		slices.ContainsFunc(s.Messages.Join, func(c Change) bool { return c.Group.Matches(group) }) ||
		s.BackendGroup != nil && s.BackendGroup(group)
}

// Route is what the clients of a path share. It is their [relay.Format], and outlives configurations. Methods may be
// called concurrently.
type Route struct {
	// Path is the path as it is configured.
	Path string
	// Stats are shared by all routes of the path.
	Stats *Stats

	node     *Node
	log      *slog.Logger
	settings atomic.Pointer[Settings]
	presence atomic.Pointer[Presence] // the last of all settings; nil: none had one
	removed  atomic.Bool
	items    atomic.Pointer[items]
	// enveloped is the format of clients of other doors than WebSocket, nil before the first.
	enveloped atomic.Pointer[Enveloped]
	open      atomic.Int64
	// One function each serves all connections.
	limit       func() int
	releaseOpen func()

	mu     sync.Mutex     // guards byUser
	byUser map[string]int // open connections by [relay.Identity.Key], while they are limited
}

// NewRoute returns a route without settings, which rejects all clients until Apply.
func NewRoute(path string, node *Node, stats *Stats) *Route {
	r := &Route{Path: path, Stats: stats, node: node, log: node.Log}
	r.limit, r.releaseOpen = r.messageLimit, func() { r.open.Add(-1) }
	return r
}

// MessageLimit returns the function that tells the greatest length of a client's message.
func (r *Route) MessageLimit() func() int { return r.limit }

func (r *Route) messageLimit() int {
	if s := r.settings.Load(); s != nil && s.MessageSize > 0 {
		return s.MessageSize
	}
	return r.node.FrameSize()
}

// Errors of [Route.Reserve].
var (
	ErrTooManyConnections = errors.New("too many connections of this route")
	ErrTooManyOfUser      = errors.New("too many connections of this user to this route")
)

// Reserve counts a connection of the user with a key, which is empty for users that are not counted. The returned
// function ends the count.
func (r *Route) Reserve(userKey string) (release func(), err error) {
	s := r.settings.Load()
	if n := r.open.Add(1); s != nil && s.Connections > 0 && n > int64(s.Connections) {
		r.open.Add(-1)
		return nil, ErrTooManyConnections
	}
	if s == nil || s.ConnectionsPerUser == 0 || userKey == "" {
		return r.releaseOpen, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byUser[userKey] >= s.ConnectionsPerUser {
		r.open.Add(-1)
		return nil, ErrTooManyOfUser
	}
	if r.byUser == nil {
		r.byUser = map[string]int{}
	}
	r.byUser[userKey]++
	return func() { r.release(userKey) }, nil
}

func (r *Route) release(userKey string) {
	r.open.Add(-1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byUser[userKey]--; r.byUser[userKey] <= 0 {
		delete(r.byUser, userKey)
	}
}

// Apply replaces the settings, for open connections as well.
func (r *Route) Apply(s *Settings) {
	if s.Presence != nil {
		r.presence.Store(&s.Presence)
	}
	r.settings.Store(s)
	r.removed.Store(false)
	if s.Applied != nil {
		s.Applied()
	}
}

// items is the format of a type that is not the route's own.
type items struct {
	kind string
	relay.Format
}

// Delegate makes another format render the events of a type, in place of rules.
func (r *Route) Delegate(kind string, f relay.Format) { r.items.Store(&items{kind, f}) }

// Settings returns the current settings, nil before the first Apply.
func (r *Route) Settings() *Settings { return r.settings.Load() }

// Remove marks the route as removed: connections that open from now on are closed.
func (r *Route) Remove() { r.removed.Store(true) }
