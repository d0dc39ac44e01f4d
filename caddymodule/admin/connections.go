package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// Lengths of lists.
const (
	pageSize    = 100
	maxPageSize = 1000
)

// connection is a client as the admin API and the console show it.
type Connection struct {
	ID      uint32     `json:"id"`
	User    string     `json:"user"`
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	Opened  time.Time  `json:"opened"`
	// LastRead is when bytes last came from the client; pings are answered, so it is never long ago.
	LastRead time.Time `json:"last_read"`
	// Groups are null while they are being changed.
	Groups []string `json:"groups"`
	// Waiting is how many bytes the client has not taken yet.
	Waiting int `json:"waiting_bytes"`
}

// connectionPage is what GET /edgerelay/connections answers.
type connectionPage struct {
	// Total is how many connections fit the filter.
	Total       int          `json:"total"`
	Connections []Connection `json:"connections"`
	// Next is the value of `after` for the next page; absent on the last.
	Next uint32 `json:"next,omitempty"`
}

func connections(sessions []hub.SessionInfo) []Connection {
	list := make([]Connection, len(sessions))
	for i, s := range sessions {
		list[i] = Connection{s.ID, s.User, s.Name, s.Address, s.Opened, s.LastRead, s.Groups, s.Waiting}
	}
	return list
}

func serveConnections(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if err := onlyParameters(q, "id", "user", "group", "address", "sort", "limit", "after"); err != nil {
		return err
	}
	id, err1 := Parameter(q, "id", 0, 1, math.MaxUint32)
	limit, err2 := Parameter(q, "limit", pageSize, 1, maxPageSize)
	after, err3 := Parameter(q, "after", 0, 0, math.MaxUint32)
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
		return badRequest(fmt.Errorf("sort is id or slowest, not %q", sort))
	}
	page.Connections = connections(sessions)
	return WriteJSON(w, page)
}

// closing is the body of POST /edgerelay/connections/close.
type closing struct {
	ID      uint32 `json:"id"`
	User    string `json:"user"`
	Group   string `json:"group"`
	Address string `json:"address"`
	// Code and Reason are what the client is told. Default: 1008, "closed by an operator".
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

// closeReport is the answer: how many connections were closed.
type closeReport struct {
	Closed int `json:"closed"`
}

func serveClose(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	c := closing{Code: relay.ClosePolicy, Reason: "closed by an operator"}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("something follows it")
	}
	if err != nil {
		return badRequest(fmt.Errorf(`the body must be like {"user": "alice", "code": 1008, "reason": "…"}, with id, user, group or address: %w`, err))
	}
	filter, err := sessionFilter(c.ID, c.User, c.Group, c.Address)
	switch {
	case err != nil:
	case filter == hub.SessionFilter{}:
		err = errors.New("say whose connections to close: id, user, group or address")
	case c.Code != 1000 && c.Code != 1001 && c.Code != relay.ClosePolicy && (c.Code < 3000 || c.Code > 4999):
		err = fmt.Errorf("a close code is 1000, 1001, 1008 or from 3000 to 4999, not %d", c.Code)
	case len(c.Reason) > 123 || !utf8.ValidString(c.Reason):
		err = errors.New("a reason is at most 123 bytes of UTF-8")
	}
	if err != nil {
		return badRequest(err)
	}
	report := closeReport{n.Hub.CloseSessions(filter, c.Code, c.Reason)}
	n.Log.Info("connections closed by an operator", "user", c.User, "group", c.Group, "address", c.Address, "id", c.ID, "code", c.Code, "closed", report.Closed)
	return WriteJSON(w, report)
}

// sessionFilter makes a filter of what a request says.
func sessionFilter(id uint32, user, group, address string) (f hub.SessionFilter, err error) {
	f = hub.SessionFilter{ID: id, User: user, Group: group}
	if address == "" {
		return f, nil
	}
	if f.Address, err = netip.ParsePrefix(address); err != nil {
		one, err := netip.ParseAddr(address)
		if err != nil {
			return f, fmt.Errorf("%q is neither an address nor a range like 10.0.0.0/8", address)
		}
		one = one.Unmap()
		f.Address = netip.PrefixFrom(one, one.BitLen())
	}
	return f, nil
}

// parameter reads a number between least and most.
func Parameter(q url.Values, name string, otherwise, least, most int64) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s is a number from %d to %d, not %q", name, least, most, text)
	}
	return n, nil
}

// onlyParameters refuses parameters that would be ignored: a filter with a typing error selects everything.
func onlyParameters(q url.Values, names ...string) error {
next:
	for name := range q {
		for _, known := range names {
			if name == known {
				continue next
			}
		}
		return badRequest(fmt.Errorf("there is no parameter %q; there are %q", name, names))
	}
	return nil
}

func badRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}
