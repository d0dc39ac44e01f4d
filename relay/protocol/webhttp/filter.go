package webhttp

import (
	"encoding/hex"
	"slices"
	"strings"
)

// The filters that subscriptions may have, as Pushpin defines them.
const (
	filterSkipSelf   = "skip-self"
	filterSkipUsers  = "skip-users"
	filterRequireSub = "require-sub"
	filterVarSubst   = "var-subst"
	filterBuildID    = "build-id"
)

// features is the value of Grip-Feature: what the relay can do beyond the protocol's first version.
const features = "filter:" + filterSkipSelf + ", filter:" + filterSkipUsers + ", filter:" + filterRequireSub +
	", filter:" + filterVarSubst

// passFilters returns what the client gets of an item, by the filters of its subscription. send is false if it gets
// nothing; so it is if a filter is unknown, or cannot be applied. c.mu is held.
func (c *Conn) passFilters(group string, it *delivery) (content []byte, send bool) {
	i := slices.IndexFunc(c.groups, func(g groupEntry) bool { return g.name == group })
	if i < 0 {
		return nil, false // unsubscribed in the meantime
	}
	filters := c.groups[i].filters
	if it.message.filtered && !slices.Equal(contentFilters(filters), it.message.filters) {
		return nil, false
	}
	s := subscriber{value: c.value, subscribed: func(channel string) bool {
		return slices.ContainsFunc(c.groups, func(g groupEntry) bool { return g.name == Group(channel) })
	}}
	return s.filter(filters, it.meta, it.message.content)
}

// contentFilters returns the filters that change content.
func contentFilters(filters []string) (list []string) {
	for _, f := range filters {
		if f == filterVarSubst || f == filterBuildID {
			list = append(list, f)
		}
	}
	return list
}

// subscriber is the client of a subscription, as its filters see it.
type subscriber struct {
	// value returns a value of the client's meta.
	value func(name string) (string, bool)
	// subscribed reports whether the client has a channel.
	subscribed func(channel string) bool
	// lastID returns the id of the last item of a channel. Nil: it is not known, and build-id cannot be applied.
	lastID func(channel string) (string, bool)
	// whole is set for the content of a site's response, which belongs to no item and has no id of its own.
	whole bool
}

// filter returns the content that passes the filters. send is false if the client gets nothing.
func (s *subscriber) filter(filters []string, meta map[string]string, content []byte) (out []byte, send bool) {
	for _, filter := range filters {
		ok := true
		switch filter {
		case filterSkipSelf:
			user, _ := s.value("user")
			ok = user == "" || meta["sender"] != user
		case filterSkipUsers:
			user, _ := s.value("user")
			for skipped := range strings.SplitSeq(meta["skip_users"], ",") {
				ok = ok && (user == "" || strings.TrimSpace(skipped) != user)
			}
		case filterRequireSub:
			needed := meta["require_sub"]
			ok = needed == "" || s.subscribed(needed)
		default:
			content, ok = s.change(filter, content)
		}
		if !ok {
			return nil, false
		}
	}
	return content, true
}

// change applies a filter that changes content. ok is false if it is unknown, or cannot be applied.
func (s *subscriber) change(filter string, content []byte) (out []byte, ok bool) {
	switch filter {
	case filterVarSubst:
		return expand(content, 's', func(name string, named bool) (string, bool) {
			value, ok := s.value(name)
			return value, ok && named
		})
	case filterBuildID:
		id, has, ok := s.buildID()
		if !ok {
			return nil, false
		}
		return expand(content, 'I', func(given string, named bool) (string, bool) {
			if named {
				return s.encodeID(given), true
			}
			return s.encodeID(id), has
		})
	}
	return nil, false
}

// buildID returns the id of the meta "id_format", in which %(channel)s stands for the id of the channel's last item.
// has is false if no channel has one.
func (s *subscriber) buildID() (id string, has, ok bool) {
	format, ok := s.value("id_format")
	encoding, encoded := s.value("id_encoding")
	if !ok || encoded && encoding != "hex" || !s.whole && s.lastID == nil {
		return "", false, false
	}
	if s.whole {
		return "", false, true
	}
	built, ok := expand([]byte(format), 's', func(channel string, named bool) (string, bool) {
		id, ok := s.lastID(channel)
		return id, ok && named
	})
	return string(built), ok, ok
}

func (s *subscriber) encodeID(id string) string {
	if encoding, _ := s.value("id_encoding"); encoding == "hex" {
		return hex.EncodeToString([]byte(id))
	}
	return id
}

// expand replaces %(name)d and %d by a value, where d is a directive, and %% by %. ok is false for any other text
// behind %, and if there is no value.
func expand(content []byte, directive byte, value func(name string, named bool) (string, bool)) (out []byte, ok bool) {
	text := string(content)
	out = make([]byte, 0, len(text)+32)
	for {
		before, rest, found := strings.Cut(text, "%")
		out = append(out, before...)
		if !found {
			return out, true
		}
		if after, ok := strings.CutPrefix(rest, "%"); ok {
			out, text = append(out, '%'), after
			continue
		}
		name, named := "", strings.HasPrefix(rest, "(")
		if named {
			if name, rest, ok = cutName(rest[1:]); !ok {
				return nil, false
			}
		}
		if rest == "" || rest[0] != directive {
			return nil, false
		}
		v, ok := value(name, named)
		if !ok {
			return nil, false
		}
		out, text = append(out, v...), rest[1:]
	}
}

// cutName cuts the text before a closing parenthesis, in which a backslash takes the next character as it is.
func cutName(text string) (name, after string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			if i++; i == len(text) {
				return "", "", false
			}
			b.WriteByte(text[i])
		case ')':
			return b.String(), text[i+1:], true
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", false
}
