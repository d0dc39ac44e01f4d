// Package ssetest reads event streams in tests, as browsers do (WHATWG HTML section 9.2).
package ssetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// Event is an event as a browser dispatches it.
type Event struct {
	ID, Name, Data string
}

// Reader reads the events of a stream.
type Reader struct {
	lines *bufio.Reader
	id    string
	// Retry is the last reconnection time.
	Retry time.Duration
	// Comments counts comments.
	Comments int
}

// NewReader returns a reader of a stream.
func NewReader(r io.Reader) *Reader { return &Reader{lines: bufio.NewReader(r)} }

// Next returns the next event.
func (r *Reader) Next() (Event, error) {
	var e Event
	var data []string
	for {
		line, err := r.lines.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if data != nil {
				e.ID, e.Data = r.id, strings.Join(data, "\n")
				return e, nil
			}
			e = Event{}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "":
			r.Comments++
		case "id":
			r.id = value
		case "event":
			e.Name = value
		case "data":
			data = append(data, value)
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				r.Retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// Client is a stream that a test reads.
type Client struct {
	*Reader
	Response *http.Response
	t        testing.TB
	cancel   context.CancelFunc
}

// Open asks for a stream; header lines are "Name: value". It ends the test if the response is no stream.
func Open(t testing.TB, client *http.Client, url string, header ...string) *Client {
	t.Helper()
	c, err := Try(t, client, url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Try is Open for a stream that may fail.
func Try(t testing.TB, client *http.Client, url string, header ...string) (*Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*testkit.Patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "text/event-stream")
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return nil, fmt.Errorf("%s, %s: %q", resp.Status, kind, body)
	}
	return &Client{NewReader(resp.Body), resp, t, cancel}, nil
}

// Want reads an event with a name and a text that its data begins with, past others of the relay's own. It returns the
// event.
func (c *Client) Want(name, data string) Event {
	c.t.Helper()
	for {
		e, err := c.Next()
		switch {
		case err != nil:
			c.t.Fatalf("%v instead of an event %q with %q", err, name, data)
		case e.Name == name && strings.HasPrefix(e.Data, data):
			return e
		case e.Name == "" || e.Name == "close":
			c.t.Fatalf("got %+v instead of an event %q with %q", e, name, data)
		}
	}
}

// Close ends the stream.
func (c *Client) Close() { c.cancel() }
