package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

const (
	// MaxChannelGroups bounds the groups that [Channels] listens to.
	MaxChannelGroups = 1000
	// maxChannelTypes bounds the types that it tells apart.
	maxChannelTypes = 200
)

// Groups lists groups of a channel layer under a prefix, at most limit.
func Groups(ctx context.Context, hosts []*redis.Client, prefix string, limit int) (groups []string, err error) {
	for _, host := range hosts {
		if err := scan(ctx, host, prefix+":group:*", func(key string) {
			if name := strings.TrimPrefix(key, prefix+":group:"); len(groups) < limit && relay.ValidGroup(name) {
				groups = append(groups, name)
			}
		}); err != nil {
			return nil, err
		}
	}
	return groups, nil
}

// PubSubGroups lists the groups of a channel layer with pub/sub under a prefix that a process has subscribed to.
func PubSubGroups(ctx context.Context, hosts []*redis.Client, prefix string, limit int) (groups []string, err error) {
	prefix += "__group__"
	for _, host := range hosts {
		names, err := host.PubSubChannels(ctx, patternOf(prefix)+"*").Result()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if name = strings.TrimPrefix(name, prefix); len(groups) < limit && relay.ValidGroup(name) {
				groups = append(groups, name)
			}
		}
	}
	return groups, nil
}

// patternOf returns the pattern of Redis that matches only a text.
func patternOf(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}

// ChannelGroups tells which groups a site uses.
type ChannelGroups struct {
	// List returns names of groups. It is called again and again, for groups that begin meanwhile.
	List func(ctx context.Context) ([]string, error)
	// Everyone is true if List has the groups of all processes, not only those of this relay's connections.
	Everyone bool
}

// listInterval is the time between two lists of the groups.
const listInterval = 5 * time.Second

// Channels listens to the groups of a site for a time, and reports what the routes make of the events that arrive: for
// each type and route, whether the route has a rule, and whether the rule can render the events.
func Channels(
	ctx context.Context, h *hub.Hub, groups ChannelGroups, routes []*channels.Route, span time.Duration,
) []Finding {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	l := &channelListener{hub: h, routes: routes, stops: map[string]func(){}, seen: map[heardKey]*heard{}}
	defer l.stop()
	again := time.NewTicker(listInterval)
	defer again.Stop()
	for {
		names, err := groups.List(ctx)
		if err != nil && ctx.Err() == nil {
			return []Finding{fail("channels", "allow SCAN and PUBSUB for the Redis user",
				"the groups cannot be listed: %v", err)}
		}
		l.listen(ctx, names)
		select {
		case <-again.C:
		case <-ctx.Done():
			return l.findings(groups.Everyone, span)
		}
	}
}

// heardKey is a type of message and a route whose clients get its events, nil for groups that no route has.
type heardKey struct {
	kind  string
	route *channels.Route
}

// heard are the events of a heardKey.
type heard struct {
	events, unrenderable int
	groups, broken       map[string]bool
	known                bool
	err                  error // why the rule cannot render an event
}

// channelListener listens to groups.
type channelListener struct {
	hub    *hub.Hub
	routes []*channels.Route
	stops  map[string]func() // by group
	missed int               // groups beyond the limit

	mu     sync.Mutex // guards the fields below
	events int
	other  int // events of types beyond the limit
	seen   map[heardKey]*heard
}

// listen adds groups, up to the limit.
func (l *channelListener) listen(ctx context.Context, groups []string) {
	slices.Sort(groups)
	l.missed = 0
	for _, g := range slices.Compact(groups) {
		switch {
		case l.stops[g] != nil || ctx.Err() != nil:
		case len(l.stops) >= MaxChannelGroups:
			l.missed++
		default:
			routes := slices.DeleteFunc(slices.Clone(l.routes), func(r *channels.Route) bool {
				s := r.Settings()
				return s == nil || !s.HasGroup(g)
			})
			l.stops[g] = l.hub.Listen(ctx, g, func(ev relay.Event) { l.hear(&ev, routes) })
		}
	}
}

func (l *channelListener) stop() {
	for _, stop := range l.stops {
		stop()
	}
}

// hear notes an event of a group that routes have.
func (l *channelListener) hear(ev *relay.Event, routes []*channels.Route) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events++
	if len(routes) == 0 {
		l.note(ev, nil)
	}
	for _, r := range routes {
		l.note(ev, r)
	}
}

// note notes an event for a route. l.mu is held.
func (l *channelListener) note(ev *relay.Event, route *channels.Route) {
	key := heardKey{channels.TypeOf(ev), route}
	k := l.seen[key]
	if k == nil {
		if len(l.seen) >= maxChannelTypes {
			l.other++
			return
		}
		key.kind = strings.Clone(key.kind)
		k = &heard{groups: map[string]bool{}, broken: map[string]bool{}}
		l.seen[key] = k
	}
	k.events++
	k.groups[ev.Group] = true
	if route == nil {
		return
	}
	var err error
	if k.known, err = route.Try(ev); err != nil {
		k.unrenderable, k.err = k.unrenderable+1, err
		k.broken[ev.Group] = true
	}
}

// findings reports the messages of the listening time.
func (l *channelListener) findings(everyone bool, span time.Duration) (list []Finding) {
	const check = "channels"
	l.mu.Lock()
	defer l.mu.Unlock()
	scope := ""
	if !everyone {
		scope = "; this channel layer lists no groups, so only the groups of this relay's connections were heard"
	}
	kinds := map[string]bool{}
	for key := range l.seen {
		kinds[key.kind] = true
	}
	switch {
	case len(l.stops) == 0:
		return []Finding{warn(check, "open a page of the site meanwhile", "the site had no groups within %v%s", span, scope)}
	case l.events == 0:
		return []Finding{warn(check, "use the site meanwhile, or listen for longer with --for",
			"no event arrived in %s within %v%s", plural(len(l.stops), "group"), span, scope)}
	}
	list = append(list, ok(check, "%s of %s arrived in %s within %v%s", plural(l.events, "event"),
		plural(len(kinds), "type"), plural(len(l.stops), "group"), span, scope))
	if l.missed > 0 || l.other > 0 {
		list = append(list, warn(check, "run the check again on a site with fewer groups, such as one for tests",
			"the check has limits: it left out %s and %s", plural(l.missed, "group"), plural(l.other, "event")))
	}
	for _, key := range slices.SortedFunc(maps.Keys(l.seen), func(a, b heardKey) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(pathOf(a.route), pathOf(b.route)))
	}) {
		list = append(list, l.judge(key, l.seen[key]))
	}
	return list
}

// judge reports the result of a route for the events of a type.
func (l *channelListener) judge(key heardKey, k *heard) Finding {
	check, events := "type "+key.kind, plural(k.events, "event")+" in "+someOf(k.groups)
	switch {
	case key.route == nil && (len(l.routes) > 0 || key.kind == channels.InternalMessage):
		for _, r := range l.routes {
			if s := r.Settings(); s != nil && key.kind != channels.InternalMessage && s.Has(key.kind) {
				return warn(check, "compare the groups of the route with the emitter's",
					"%s; no route has such a group, although %s has a rule for the type", events, r.Path)
			}
		}
		return ok(check, "%s; no route has such a group", events)
	case key.route == nil:
		return warn(check, "add a route with these groups if pages should get the events",
			"%s; no route has such a group", events)
	case !k.known:
		return warn(check, fmt.Sprintf("add 'on %s …' to the route, or 'on %s ignore'", key.kind, key.kind),
			"route %s has no rule; %s", key.route.Path, events)
	case k.unrenderable > 0:
		return warn(check, "compare the rule with the emitter's message",
			"route %s cannot render %d of %s (%v); %s in %s", key.route.Path, k.unrenderable, plural(k.events, "event"), k.err,
			plural(k.unrenderable, "event"), someOf(k.broken))
	}
	return ok(check, "route %s has a rule; %s", key.route.Path, events)
}

func pathOf(r *channels.Route) string {
	if r == nil {
		return ""
	}
	return r.Path
}

// someOf names some groups of a set.
func someOf(set map[string]bool) string {
	const most = 3
	groups := slices.Sorted(maps.Keys(set))
	text := strings.Join(groups[:min(len(groups), most)], ", ")
	if len(groups) > most {
		text += fmt.Sprintf(" and %d more", len(groups)-most)
	}
	return text
}

// plural returns a number and a noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// RouteTypes reports types of events without a rule that clients of routes would have got.
func RouteTypes(path string, stats *channels.Stats) Finding {
	const check = "routes"
	unknown, broken := stats.Unknown(), stats.Broken()
	switch {
	case len(unknown) > 0:
		return warn(check, "add 'on <type> …' to the route, or 'on <type> ignore'",
			"route %s: events of the types %q have no rule", path, slices.Sorted(maps.Keys(unknown)))
	case len(broken) > 0:
		return warn(check, "compare the rule with the emitter's message; the log names the missing member",
			"route %s: events of the types %q lack what their rule needs", path, slices.Sorted(maps.Keys(broken)))
	}
	return ok(check, "route %s: all events had a rule", path)
}
