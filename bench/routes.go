//go:build linux

package main

import (
	"fmt"
	"strings"
)

const (
	// routeClients is the number of clients in the bursts and paces of routes.
	routeClients = 1000
	// routePath is the path of the route.
	routePath = "/ws/bench/"
	// typedEvent is the message type of events for routes.
	typedEvent = "bench.event"
)

// routeCase is a way of clients to get events.
type routeCase struct {
	name, title string
	rule        string // of the route's events, "" without a route
	message     messageForm
	dialect     dialect // of a door, "" for that of the system
}

// routeCases are the cases in turn; the first is the one to compare with.
var routeCases = []routeCase{
	{name: "awx", title: "AWX's protocol"},
	{name: "text", title: "a route, a member as text", rule: "on " + typedEvent + " text event", message: eventMember},
	{
		name: "object", title: "a route, an object of members", rule: "on " + typedEvent + " json seq t pad",
		message: eventMembers,
	},
}

func findRoute(name string) *routeCase {
	for i := range routeCases {
		if routeCases[i].name == name {
			return &routeCases[i]
		}
	}
	for i := range doorCases {
		if doorCases[i].name == name {
			return &doorCases[i]
		}
	}
	return nil
}

// block is the route's part of the Caddyfile.
func (c *routeCase) block() string {
	if c == nil || c.rule == "" {
		return ""
	}
	return strings.Join([]string{
		"{", "\troute " + routePath + " {", "\t\tgroups " + benchGroup, "\t\t" + c.rule, "\t}", "}",
	}, "\n\t")
}

// messageForm is the form of an event in a message.
type messageForm uint8

const (
	// awxMessage is an internal.message, whose text is the event.
	awxMessage messageForm = iota
	// eventMember is a message whose member "event" is the event's text.
	eventMember
	// eventMembers is a message with the event's members.
	eventMembers
)

// messageType is the type of the message.
func (f messageForm) messageType() string {
	if f == awxMessage {
		return "internal.message"
	}
	return typedEvent
}

// members returns the number of members of the message that holds an event, and the members in msgpack.
func (f messageForm) members(event []byte) (n byte, packed []byte) {
	switch f {
	case eventMember:
		return 1, appendString(appendString(nil, "event"), string(event))
	case eventMembers:
		seq, micros, pad := splitEvent(event)
		b := appendUint(appendString(nil, "seq"), seq)
		b = appendUint(appendString(b, "t"), micros)
		return 3, appendString(appendString(b, "pad"), pad)
	}
	return 1, appendString(appendString(nil, "text"), string(event))
}

// publishBody makes the request body of the admin API's publish.
func (f messageForm) publishBody(group string) func(event []byte) []byte {
	if f == awxMessage {
		return publishBody(group)
	}
	return func(event []byte) []byte {
		data := string(event)
		if f == eventMember {
			data = fmt.Sprintf(`{"event": %q}`, event)
		}
		return fmt.Appendf(nil, `{"group": %q, "type": %q, "data": %s}`, group, typedEvent, data)
	}
}

// splitEvent returns the parts of an event that a source has made.
func splitEvent(event []byte) (seq, micros uint64, pad string) {
	s, t, _ := parseEvent(event)
	return uint64(s), uint64(t), string(event[timeTo+len(`,"pad":"`) : len(event)-len(`"}`)])
}

// routeRows measures bursts and paces of a session.
func (p *plan) routeRows(s *session) []measurement {
	return []measurement{
		{p.burstRow(s, 300), (*session).burst},
		{p.burstRow(s, 2048), (*session).burst},
		{p.pacedRow(s, 300), (*session).pacedIfAble},
	}
}

// routes is the report's part about routes.
func (res *results) routes(b *strings.Builder) {
	var list []summary
	for _, m := range res.Medians {
		if m.Route != "" && !findRoute(m.Route).isDoor() && (m.Kind != kindConnect || m.IdleAfterGC > 0) {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Routes\n\n| system | clients by | row | CPU-s/M | × AWX's protocol | p99 ms | KiB a connection "+
		"after a collection | more |\n|---|---|---|--:|--:|--:|--:|--:|\n")
	for _, m := range list {
		res.doorRow(b, &m, findRoute(m.Route).title, routeCases[0].name)
	}
}

// doorRow is the row of a case, beside the case that it is compared with.
func (res *results) doorRow(b *strings.Builder, m *summary, title, first string) {
	base := res.sameBy(first, m)
	fmt.Fprintf(b, "| %s | %s | %s |", titleOf(m.System), title, m.historyName())
	switch {
	case m.why() != "":
		fmt.Fprintf(b, " %s | | | | |\n", m.why())
	case m.Kind == kindConnect:
		fmt.Fprintf(b, " | | | %.2f | %+.2f |\n", m.IdleAfterGC, m.IdleAfterGC-base.IdleAfterGC)
	default:
		fmt.Fprintf(b, " %.3f | %.2f | %.1f | | |\n", m.CPUPerM, m.CPUPerM/base.CPUPerM, m.P99)
	}
}

// sameBy returns the same row of another case.
func (res *results) sameBy(first string, m *summary) summary {
	for _, o := range res.Medians {
		if o.System == m.System && o.Kind == m.Kind && o.Clients == m.Clients && o.Size == m.Size &&
			o.Route == first {
			return o
		}
	}
	return summary{}
}
