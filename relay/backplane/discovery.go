package backplane

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
)

// Target is a node to dial.
type Target struct {
	// URL is http:// or https:// with host and port, and a path if the node is behind a prefix.
	URL string
	// Dialect is the dialect of a Python node; Auto if the kind of node is unknown.
	Dialect Dialect
	// Found is set unless an operator has named the node. A found node is never sent AWX's header, which can be
	// replayed.
	Found bool
	// Gone is set if the node has withdrawn itself. It is left as soon as there is no link to it.
	Gone bool
}

// Discovery finds peers.
type Discovery interface {
	// Run calls found with the whole list of peers, first as soon as the list is known and then after every change.
	// It returns when ctx ends, within a second or two, after withdrawing this node's announcements.
	Run(ctx context.Context, found func([]Target))
	// Key identifies the discovery and its settings in logs and comparisons, without secrets.
	Key() string
}

// Patient is an optional interface of a [Discovery] whose answers may leave out nodes that exist, such as a name server
// that returns a part of its addresses. Run then calls found for each answer. A node that is missing is kept while
// there is a link to it, for at most half an hour, and without a link for several answers. The nodes of any other
// discovery are left as soon as they are missing.
type Patient interface {
	// Patience is the number of successive answers without a node, and without a link to it, after which the node is
	// left.
	Patience() int
	// Source identifies the place that is asked, without secrets. Nodes are kept when the configuration changes and
	// another discovery asks the same source.
	Source() string
}

// Lister is an optional interface of a [Discovery] whose peers are known before Run. Tools that examine a
// configuration offline see only the peers of a Lister.
type Lister interface {
	List() []Target
}

// Self is what a discovery tells other nodes about this one.
type Self struct {
	// Name is the node's name among its peers.
	Name string
	// Advertise is the URL under which peers reach the node; empty if unknown.
	Advertise string
}

// Discoverer is a configured way to find peers, such as a guest module of the configuration.
type Discoverer interface {
	// Discovery returns a discovery for this node, not yet running, that logs to log. It returns an error if self lacks
	// a value that the discovery announces.
	Discovery(self Self, log *slog.Logger) (Discovery, error)
}

// Static is a fixed list of peers.
type Static []Target

var (
	_ Discovery = Static(nil)
	_ Lister    = Static(nil)
)

// Run implements [Discovery].
func (s Static) Run(ctx context.Context, found func([]Target)) {
	found(s)
	<-ctx.Done()
}

// Key implements [Discovery].
func (s Static) Key() string { return fmt.Sprint("static ", []Target(s)) }

// List implements [Lister].
func (s Static) List() []Target { return s }

// canonicalURL returns the one form of a node's URL. A node found under two forms would be dialed twice, and a
// Python node would receive every event twice.
func canonicalURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]; port != "" {
		u.Host = strings.TrimSuffix(u.Host, port)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u.String()
}
