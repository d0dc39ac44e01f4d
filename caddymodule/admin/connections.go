package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"time"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// Connection is a client, as the admin API and the console show it.
type Connection struct {
	ID   uint32 `json:"id"`
	User string `json:"user"`
	Name string `json:"name"`
	// Door is the transport by which the client is connected: websocket, event_stream, long_poll or hold.
	Door    string     `json:"door"`
	Address netip.Addr `json:"address"`
	Opened  time.Time  `json:"opened"`
	// LastRead is the time of the last bytes from the client, which answers pings even if it sends nothing else.
	LastRead time.Time `json:"last_read"`
	// Groups is null while a subscription is being changed.
	Groups []string `json:"groups"`
	// Waiting is the number of bytes queued for the client.
	Waiting int `json:"waiting_bytes"`
}

// connectionPage is the response to GET /edgerelay/connections.
type connectionPage struct {
	// Total is the number of connections that match the filter, on all pages.
	Total       int          `json:"total"`
	Connections []Connection `json:"connections"`
	// Next is the value of the parameter after for the next page; absent on the last page.
	Next uint32 `json:"next,omitempty"`
}

// connections converts sessions of the hub.
func connections(sessions []hub.SessionInfo) []Connection {
	list := make([]Connection, len(sessions))
	for i, s := range sessions {
		list[i] = Connection{s.ID, s.User, s.Name, s.Door.String(), s.Address, s.Opened, s.LastRead, s.Groups, s.Waiting}
	}
	return list
}

// ServeConnections lists clients.
func ServeConnections(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if err := rejectUnknownParameters(q, "id", "user", "group", "address", "sort", "limit", "after"); err != nil {
		return badRequest(err)
	}
	id, err1 := IntParameter(q, "id", 0, 1, math.MaxUint32)
	limit, err2 := IntParameter(q, "limit", pageSize, 1, maxPageSize)
	after, err3 := IntParameter(q, "after", 0, 0, math.MaxUint32)
	filter, err4 := sessionFilter(uint32(id), q.Get("user"), q.Get("group"), q.Get("address"))
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return badRequest(err)
	}
	var sessions []hub.SessionInfo
	var page connectionPage
	switch sort := q.Get("sort"); sort {
	case "", "id":
		sessions, page.Total = n.Hub.Sessions(filter, uint32(after), int(limit)+1)
		if len(sessions) > int(limit) {
			sessions = sessions[:limit]
			page.Next = sessions[limit-1].ID
		}
	case "slowest":
		sessions, page.Total = n.Hub.SlowestSessions(filter, int(limit))
	default:
		return badRequest(fmt.Errorf("invalid sort %q; use id or slowest", sort))
	}
	page.Connections = connections(sessions)
	return WriteJSON(w, page)
}

// CloseRequest is the body of POST /edgerelay/connections/close.
type CloseRequest struct {
	ID      uint32 `json:"id"`
	User    string `json:"user"`
	Group   string `json:"group"`
	Address string `json:"address"`
	// Code and Reason of the close frame. [DefaultCloseRequest] has the defaults.
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

// DefaultCloseRequest returns a request without a filter, with code 1008 and a reason.
func DefaultCloseRequest() CloseRequest {
	return CloseRequest{Code: relay.ClosePolicy, Reason: "closed by an operator"}
}

// CloseReport is the response to POST /edgerelay/connections/close.
type CloseReport struct {
	// Closed is the number of closed connections.
	Closed int `json:"closed"`
}

// maxCloseBody is the longest body of a request to close connections, in bytes.
const maxCloseBody = 64 << 10

// serveClose closes the connections that match a filter.
func serveClose(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	c := DefaultCloseRequest()
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCloseBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("unexpected data after the object")
	}
	if err != nil {
		return badRequest(fmt.Errorf(
			`invalid body; use {"user": "alice", "code": 1008, "reason": "…"}, with id, user, group or address: %w`,
			err))
	}
	report, err := CloseConnections(n, c)
	if err != nil {
		return err
	}
	return WriteJSON(w, report)
}

// CloseConnections closes the connections that match a request. The error is an answer for the client.
func CloseConnections(n *node.Node, c CloseRequest) (report CloseReport, err error) {
	filter, err := c.filter()
	if err != nil {
		return report, badRequest(err)
	}
	report.Closed = n.Hub.CloseSessions(filter, c.Code, c.Reason)
	n.Log.Info("connections closed by an operator", "user", c.User, "group", c.Group, "address", c.Address,
		"id", c.ID, "code", c.Code, "count", report.Closed)
	return report, nil
}

// filter checks the request and returns its filter. An empty filter is an error: it would match every connection.
func (c *CloseRequest) filter() (hub.SessionFilter, error) {
	filter, err := sessionFilter(c.ID, c.User, c.Group, c.Address)
	switch {
	case err != nil:
	case filter == hub.SessionFilter{}:
		err = errors.New("no connections selected; set id, user, group or address")
	case c.Code != 1000 && c.Code != 1001 && c.Code != relay.ClosePolicy && (c.Code < 3000 || c.Code > 4999):
		err = fmt.Errorf("invalid close code %d; use 1000, 1001, 1008 or a code from 3000 to 4999", c.Code)
	case len(c.Reason) > maxCloseReason || !utf8.ValidString(c.Reason):
		err = fmt.Errorf("invalid reason; use at most %d bytes of UTF-8", maxCloseReason)
	}
	return filter, err
}

// maxCloseReason is the longest reason that fits into a close frame, in bytes.
const maxCloseReason = 123

// sessionFilter returns the filter of a request. Empty values match every session.
func sessionFilter(id uint32, user, group, address string) (f hub.SessionFilter, err error) {
	f = hub.SessionFilter{ID: id, User: user, Group: group}
	if address == "" {
		return f, nil
	}
	if f.Address, err = netip.ParsePrefix(address); err != nil {
		single, err := netip.ParseAddr(address)
		if err != nil {
			return f, fmt.Errorf("invalid address %q; use an IP address or a range such as 10.0.0.0/8", address)
		}
		single = single.Unmap()
		f.Address = netip.PrefixFrom(single, single.BitLen())
	}
	return f, nil
}
