package channels

import "github.com/edgerelay/edgerelay/relay"

// Presence follows which users are in the groups of a route. Methods must not block, and may be called concurrently.
type Presence interface {
	// Entered is called when a client has entered groups, and again after a change of settings; Left when it has left
	// them.
	Entered(s relay.Session, groups []string)
	Left(s relay.Session, groups []string)
}

// presencePrefix begins the types of the relay's own messages about presence.
const presencePrefix = "presence."

// Subscribed implements [relay.SubscriptionFormat].
func (r *Route) Subscribed(s relay.Session, groups []string) {
	if settings := r.settings.Load(); settings != nil && settings.Presence != nil {
		settings.Presence.Entered(s, groups)
	}
}

// Unsubscribed implements [relay.SubscriptionFormat]. Clients that entered under earlier settings leave as well.
func (r *Route) Unsubscribed(s relay.Session, groups []string) {
	if p := r.presence.Load(); p != nil {
		(*p).Left(s, groups)
	}
}

// Follow makes the presence of a client that is in groups as the current settings say, after a change of them.
func (r *Route) Follow(s relay.Session, groups []string) {
	if settings := r.settings.Load(); settings != nil && settings.Presence != nil {
		settings.Presence.Entered(s, groups)
	} else {
		r.Unsubscribed(s, groups)
	}
}

var _ relay.SubscriptionFormat = (*Route)(nil)
