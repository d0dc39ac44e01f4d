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
	// Secrets of the cluster, the current one first. At least one.
	Secrets Secrets
	// Discoveries find the peers.
	Discoveries []Discovery
	// Dialect restricts what is spoken. Default: auto.
	Dialect Dialect
	// Name is what other relays show for this node; Advertise the URL under which they reach it, if known.
	Name, Advertise string
	// TLS is for https peers; nil verifies against the system's roots.
	TLS *tls.Config
	// Retry is the longest pause between attempts to dial; it varies by a fifth. Default: 5 s, as in AWX.
	Retry time.Duration
	// Ping is the time between pings, and Silence how long an answer may take before a peer is given up. Defaults: 10 s, 20 s.
	Ping, Silence time.Duration
	// QueueBytes bounds what waits for one peer; the oldest events are dropped. Default: 8 MiB.
	QueueBytes int
	// FrameSize is the longest message that a peer may send, in bytes; a longer one is read past and counted. Default: 16 MiB.
	FrameSize int
	// JoinWait is how long a client's subscription waits at most for peers to know of it. Default: 250 ms.
	JoinWait time.Duration
	// ProbeWait is how long a Python peer has to show that it is on the same layer. Default: 1 s.
	ProbeWait time.Duration
	// AnyEvent also sends events that no AWX emitter made: neither marked needs_relay nor wrapped. Only for layers
	// that no Python node with a backplane of its own writes to.
	AnyEvent bool
}

// Dialect is what nodes speak with each other.
type Dialect string

// The dialects. As a setting, broadcast and relay do what an AWX node of that generation does and nothing else, and edgerelay
// refuses Python nodes.
const (
	Auto      Dialect = "auto"
	Broadcast Dialect = "broadcast"
	Relay     Dialect = "relay"
	EdgeRelay Dialect = "edgerelay"
)

// withDefaults fills in what is not set.
func (s Settings) withDefaults() Settings {
	def(&s.Dialect, Auto)
	def(&s.Retry, 5*time.Second)
	def(&s.Ping, 10*time.Second)
	def(&s.Silence, 20*time.Second)
	def(&s.QueueBytes, 8<<20)
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

// Validate says what is wrong with the settings, if anything.
func (s Settings) Validate() error {
	if len(s.Secrets) == 0 {
		return errors.New("backplane: no secret; write: secret {env.BROADCAST_WEBSOCKET_SECRET}")
	}
	for _, v := range s.Secrets {
		if v == "" {
			return errors.New("backplane: a secret is empty (is the environment variable set?)")
		}
	}
	switch s.Dialect {
	case "", Auto, Broadcast, Relay, EdgeRelay:
	default:
		return fmt.Errorf("backplane: dialect %q is not one of auto, broadcast, relay, edgerelay", s.Dialect)
	}
	if s.Advertise != "" {
		if _, err := ParseURL(s.Advertise); err != nil {
			return err
		}
	}
	if s.Retry < 0 || s.Ping < 0 || s.Silence < 0 || s.QueueBytes < 0 || s.FrameSize < 0 || s.JoinWait < 0 || s.ProbeWait < 0 {
		return errors.New("backplane: times and sizes must not be negative")
	}
	return nil
}

// ParseURL reads the URL of a node.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && (u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil) {
		err = errors.New("it needs a scheme and a host, and nothing but a path behind them")
	}
	if err != nil {
		return nil, fmt.Errorf("backplane: the peer %q cannot be read; write it like http://10.0.0.2 or https://node2.example.com:8443: %w", text, err)
	}
	return u, nil
}
