package publishing

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay/protocol/publish"
)

// State outlives configurations: the counters of keys, and idempotency keys in memory. All methods are safe for
// concurrent use.
type State struct {
	claims       publish.LocalClaims
	unauthorized publish.Counters

	mu        sync.Mutex
	keys      map[string]*publish.Counters
	endpoints []*Handler
}

type stateKey struct{}

// StateOf returns the state of a node.
func StateOf(n *node.Node) *State {
	return n.Extension(stateKey{}, func() any {
		return &State{keys: map[string]*publish.Counters{}}
	}).(*State)
}

// counters returns the counters of a key. Keys with the same name share them.
func (s *State) counters(name string) *publish.Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.keys[name]
	if c == nil {
		c = &publish.Counters{}
		s.keys[name] = c
	}
	return c
}

func (s *State) add(h *Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = append(s.endpoints, h)
}

// shadows reports whether another endpoint answers all requests to an endpoint that is being provisioned.
func (s *State) shadows(h *Handler) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.endpoints, func(other *Handler) bool {
		return other.path == h.path && h.place.IsBehind(other.place, other)
	})
}

func (s *State) remove(h *Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = slices.DeleteFunc(s.endpoints, func(other *Handler) bool { return other == h })
}

// Unauthorized returns the counters of requests without a valid key.
func (s *State) Unauthorized() *publish.Counters { return &s.unauthorized }

// KeyStatus describes a key of the current configuration, without its secrets.
type KeyStatus struct {
	// Name is the name of the key, and Path the path of its endpoint.
	Name string `json:"name"`
	Path string `json:"path"`
	// Groups and Types are the patterns of the key; no types are all that are not reserved.
	Groups []string `json:"groups"`
	Types  []string `json:"types"`
	// Rate is the number of publications a second; 0 is no limit.
	Rate float64 `json:"rate"`
	// Sent, Deduplicated and Failed count publications since the start of the node; Rejected counts requests.
	Sent         uint64 `json:"sent"`
	Deduplicated uint64 `json:"deduplicated"`
	Failed       uint64 `json:"failed"`
	Rejected     uint64 `json:"rejected"`
	// Used is the time of the last request; absent without one.
	Used time.Time `json:"used,omitzero"`

	// Cleartext counts requests from outside without TLS, ShortestSecret is the length of the shortest secret, and
	// Literal tells that a secret is written in the configuration.
	Cleartext      uint64 `json:"-"`
	ShortestSecret int    `json:"-"`
	Literal        bool   `json:"-"`
}

// Keys describes the keys of all endpoints, by path and name. During a reload, keys of both configurations count.
func (s *State) Keys() (list []KeyStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.endpoints {
		for _, k := range h.Keys {
			list = append(list, k.status(h.path))
		}
	}
	slices.SortStableFunc(list, func(a, b KeyStatus) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return slices.CompactFunc(list, func(a, b KeyStatus) bool { return a.Path == b.Path && a.Name == b.Name })
}

func (k *Key) status(path string) KeyStatus {
	c := k.key.Counters()
	status := KeyStatus{
		Name: k.Name, Path: path, Groups: k.Groups, Types: k.Types, Rate: k.Rate,
		Sent: c.Sent.Load(), Deduplicated: c.Deduplicated.Load(), Failed: c.Failed.Load(), Used: c.Used(),
		Cleartext: c.Cleartext.Load(), ShortestSecret: k.key.ShortestSecret(), Literal: k.literal,
	}
	if status.Types == nil {
		status.Types = []string{} // an array in JSON, never null
	}
	for reason := range publish.ReasonCount {
		status.Rejected += c.Rejected[reason].Load()
	}
	return status
}

// Each calls f with the counters of each key that the node has had.
func (s *State) Each(f func(name string, c *publish.Counters)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, c := range s.keys {
		f(name, c)
	}
}
