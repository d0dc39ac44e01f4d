package awx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Request is what a client asks for that sends no messages, such as that of an event stream: groups, and what it has of
// each. It comes with an HTTP request.
type Request struct {
	message
	trusted bool // the request needs no token
}

// ParseRequest reads a request in the form of a client's message. It needs the token.
func ParseRequest(body []byte) (Request, error) {
	m, err := parseMessage(body)
	if err == nil && !m.hasGroups {
		err = errNoGroups
	}
	return Request{message: m}, err
}

// Query is a request in the parameters of a URL.
type Query struct {
	// Groups are full names of groups.
	Groups []string
	// Kinds is an object of lists, as in a message; or empty.
	Kinds string
	// After are the tokens of the client's last positions by full name.
	After map[string]string
	// Lost tells that the client has had positions of groups that After lacks.
	Lost bool
	// Latest is the number of last events to get of groups without a position.
	Latest uint32
}

// Errors of requests.
var (
	errNoGroups = errors.New("no groups; name some, such as group=jobs-status_changed")
	errNoKind   = errors.New("a group is a kind, '-' and an id or name, such as job_events-42")
)

// Request returns the request, which needs no token: a page of another site cannot read the response.
func (q Query) Request() (r Request, err error) {
	r.trusted, r.hasGroups = true, true
	if q.Kinds != "" {
		if r.requests, err = parseGroups(json.RawMessage(q.Kinds)); err != nil {
			return r, err
		}
	}
	for _, group := range q.Groups {
		if err := relay.CheckGroup(group); err != nil {
			return r, err
		}
		kind, item, ok := strings.Cut(group, "-")
		if !ok {
			return r, fmt.Errorf("no such group: %s: %w", group, errNoKind)
		}
		r.requests = append(r.requests, groupRequest{kind, item})
	}
	if len(r.requests) == 0 {
		return r, errNoGroups
	}
	r.since = q.since(r.requests)
	return r, nil
}

// since returns the member "since" of the message that the query stands for.
func (q Query) since(requests []groupRequest) json.RawMessage {
	if len(q.After) == 0 && q.Latest == 0 && !q.Lost {
		return nil
	}
	var b bytes.Buffer
	separator := byte('{')
	for _, r := range requests {
		group := r.group()
		token, ok := q.After[group]
		if !ok && q.Lost {
			token, ok = "lost", true // is no position
		}
		if !ok && q.Latest == 0 {
			continue
		}
		b.WriteByte(separator)
		separator = ','
		b.Write(append(pyjson.AppendString(nil, group), ':'))
		if ok {
			b.Write(pyjson.AppendString(nil, token))
		} else {
			fmt.Fprintf(&b, `{"latest":%d}`, q.Latest)
		}
	}
	if separator == '{' {
		return nil
	}
	b.WriteByte('}')
	return b.Bytes()
}

// Groups returns the number of groups that the request asks for, repeated ones included.
func (r Request) Groups() int {
	requests, _ := r.groupRequests()
	return len(requests)
}

// Names yields the full names of the groups that the request asks for.
func (r Request) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		requests, _ := r.groupRequests()
		for _, g := range requests {
			if !yield(g.group()) {
				return
			}
		}
	}
}

// Resumes reports whether the client has positions.
func (r Request) Resumes() bool { return len(r.since) > 0 }

// Ask answers a request like a message: errors are frames.
func (c *Client) Ask(r Request) {
	if err := c.Begin(r, false); err != nil {
		c.Session.Send(errorText(err.Error()))
	}
}

// Begin answers a request. With strict, a request without an allowed group is an error, which wraps [relay.ErrDenied]
// if the groups are denied, and [relay.ErrExpired] if the login has expired; the error of a bad request is a
// [RequestError].
func (c *Client) Begin(r Request, strict bool) error {
	var err error
	if !r.trusted {
		if err = c.checkToken(r.message); err != nil {
			err = RequestError{err}
		}
	}
	if err == nil {
		err = c.apply(r.message, strict)
	}
	if err != nil {
		c.Stats.Rejected.Add(1)
		return err
	}
	c.Stats.Accepted.Add(1)
	return nil
}

// RequestError is the error of a request that no change of rights would make good.
type RequestError struct{ error }

// Unwrap returns the cause.
func (e RequestError) Unwrap() error { return e.error }
