package backplane

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// Settings configure a [Backplane].
type Settings struct {
	// Secrets are the secrets of the cluster, the current one first. At least one.
	Secrets Secrets
	// Discoveries find the peers.
	Discoveries []Discovery
	// Dialect restricts the dialects of this node. Default: auto.
	Dialect Dialect
	// Name is this node's name in its peers' logs, and Advertise the URL under which they reach it, if known.
	Name, Advertise string
	// Version is the version of this node's software, which peers show. Optional.
	Version string
	// TLS is the configuration for https peers; nil verifies against the system's roots.
	TLS *tls.Config
	// Retry is the longest pause between attempts to dial; it varies by a fifth. Default: 5 s, as in AWX.
	Retry time.Duration
	// Ping is the time between pings. A peer that neither answers nor reads for Silence is timed out. Defaults: 10
	// s, 20 s.
	Ping, Silence time.Duration
	// QueueBytes bounds the events queued for one peer; beyond it, the oldest are dropped. Default: 8 MiB.
	QueueBytes int
	// QueueAge bounds the age of events that are queued for a peer; older ones are dropped. Default: 1 min.
	QueueAge time.Duration
	// FrameSize is the longest message that a peer may send, in bytes; longer ones are skipped and counted.
	// Default: 16 MiB.
	FrameSize int
	// JoinWait bounds the time that a client's subscription waits for peers to learn of it. Default: 250 ms.
	JoinWait time.Duration
	// ProbeWait is the time after which a Python peer whose probe has not arrived counts as separate. Default: 1 s.
	ProbeWait time.Duration
	// AnyEvent also sends events that no AWX emitter published: neither marked needs_relay nor wrapped. Only for
	// layers to which no Python node with a backplane of its own publishes.
	AnyEvent bool
}

// Dialect is a protocol between nodes.
type Dialect string

// The dialects. As a setting, broadcast and relay limit this node to the behavior of an AWX node of that
// generation, and edgerelay rejects Python nodes.
const (
	Auto      Dialect = "auto"
	Broadcast Dialect = "broadcast"
	Relay     Dialect = "relay"
	EdgeRelay Dialect = "edgerelay"
)

// WithDefaults fills in the settings that are zero.
func (s Settings) WithDefaults() Settings {
	def(&s.Dialect, Auto)
	def(&s.Retry, 5*time.Second)
	def(&s.Ping, 10*time.Second)
	def(&s.Silence, 20*time.Second)
	def(&s.QueueBytes, 8<<20)
	def(&s.QueueAge, time.Minute)
	def(&s.FrameSize, 16<<20)
	def(&s.JoinWait, 250*time.Millisecond)
	def(&s.ProbeWait, time.Second)
	return s
}

func def[T comparable](to *T, value T) {
	var zero T
	if *to == zero {
		*to = value
	}
}

// Validate returns an error if a setting is missing or invalid.
func (s Settings) Validate() error {
	if len(s.Secrets) == 0 {
		return errors.New("backplane: no secret is set; add 'secret {env.BROADCAST_WEBSOCKET_SECRET}'")
	}
	for _, v := range s.Secrets {
		if v == "" {
			return errors.New("backplane: a secret is empty; check that the environment variable is set")
		}
	}
	switch s.Dialect {
	case "", Auto, Broadcast, Relay, EdgeRelay:
	default:
		return fmt.Errorf("backplane: unknown dialect %q; use auto, broadcast, relay or edgerelay", s.Dialect)
	}
	if s.Advertise != "" {
		if _, err := ParseURL(s.Advertise); err != nil {
			return err
		}
	}
	shortest := min(s.Retry, s.Ping, s.Silence, s.JoinWait, s.ProbeWait, s.QueueAge)
	if shortest < 0 || s.QueueBytes < 0 || s.FrameSize < 0 {
		return errors.New("backplane: times and sizes must not be negative")
	}
	return nil
}

// ParseURL parses the URL of a node.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil) {
		err = errors.New("it needs the scheme http or https, a host, and no user or query")
	}
	if err != nil {
		return nil, fmt.Errorf("backplane: invalid URL of a node %q: %w; use a URL such as http://10.0.0.2 "+
			"or https://node2.example.com:8443", text, err)
	}
	return u, nil
}
