package eventstream

import (
	"bytes"
	"slices"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// MaxGroups is the greatest number of groups of a stream with ids: an id has the positions of all of them.
const MaxGroups = 32

// maxID bounds the header Last-Event-ID in bytes: MaxGroups groups with long names, and their positions.
const maxID = MaxGroups * (relay.MaxGroupName + 32)

// ParseID reads an id, "<group>:<position>[,<group>:<position>…]", and returns the tokens of positions by group. Parts
// that are no group's are left out, and the id is damaged: it may have had a position of any group that the tokens lack.
// A token that is no position stays. A client without a readable position hears that it may have missed events.
func ParseID(id string) (tokens map[string]string, damaged bool) {
	if id == "" || len(id) > maxID {
		return nil, id != ""
	}
	tokens = map[string]string{}
	for part := range strings.SplitSeq(id, ",") {
		group, token, ok := strings.Cut(part, ":")
		if ok && relay.ValidGroup(group) && token != "" && len(tokens) < MaxGroups {
			tokens[group] = token
		} else {
			damaged = true
		}
	}
	return tokens, damaged
}

// Places are the last positions of one client in several groups, which are the ids of its events. A Places is not safe
// for concurrent use.
type Places struct {
	groups []place
}

// place is the last position in a group.
type place struct {
	group string
	token [24]byte // of which size are used
	size  uint8
	own   bool // the stream has had a position of the group; otherwise the client has come with it
}

// NewPlaces returns the positions that a client has come with, as ParseID returns them.
func NewPlaces(tokens map[string]string) *Places {
	p := &Places{}
	for group, token := range tokens {
		if _, err := relay.ParsePosition(token); err == nil {
			p.set([]byte(group), []byte(token), false)
		}
	}
	return p
}

// Rewrite appends events to dst, with ids that have the last positions of all groups.
func (p *Places) Rewrite(dst, events []byte) []byte {
	for len(events) > 0 {
		event := events
		if at := bytes.Index(events, []byte("\n\n")); at >= 0 {
			event = events[:at+2]
		}
		events = events[len(event):]
		id, rest, ok := bytes.Cut(event, []byte("\n"))
		if group, token, found := bytes.Cut(bytes.TrimPrefix(id, []byte(idField)), []byte(":")); ok && found &&
			bytes.HasPrefix(id, []byte(idField)) {
			p.set(group, token, true)
			dst = p.appendID(dst)
			event = rest
		}
		dst = append(dst, event...)
	}
	return dst
}

// set sets the position of a group. A group of the stream takes the place of one that the client has only come with, if
// there are too many.
func (p *Places) set(group, token []byte, own bool) {
	at := slices.IndexFunc(p.groups, func(g place) bool { return g.group == string(group) })
	if at < 0 && len(p.groups) < MaxGroups {
		at = len(p.groups)
		p.groups = append(p.groups, place{group: string(group)})
	}
	if at < 0 {
		if at = slices.IndexFunc(p.groups, func(g place) bool { return !g.own }); at < 0 {
			return
		}
		p.groups[at].group = string(group)
	}
	g := &p.groups[at]
	g.size, g.own = uint8(copy(g.token[:], token)), own
}

func (p *Places) appendID(dst []byte) []byte {
	separator := idField
	for i := range p.groups {
		g := &p.groups[i]
		dst = append(append(append(dst, separator...), g.group...), ':')
		dst = append(dst, g.token[:g.size]...)
		separator = ","
	}
	return append(dst, '\n')
}
