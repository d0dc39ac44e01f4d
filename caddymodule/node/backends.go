package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// backendCloseTimeout bounds the time for telling backends about the ends of connections when the relay stops.
const backendCloseTimeout = 5 * time.Second

// Backends are the sites that answer the messages of routes. They outlive configurations, as their connections do.
type Backends struct {
	mu    sync.Mutex // guards byKey
	byKey map[string]*webhttp.Backend
}

// Backend returns the backend of a route's key. Settings of a backend that exists are checked, and take effect by its
// Update.
func (n *Node) Backend(key string, s webhttp.Settings) (*webhttp.Backend, error) {
	b, err := webhttp.NewBackend(s, webhttp.NewFormat(nil))
	if err != nil {
		return nil, err
	}
	all := &n.Backends
	all.mu.Lock()
	defer all.mu.Unlock()
	if existing := all.byKey[key]; existing != nil {
		return existing, nil
	}
	if all.byKey == nil {
		all.byKey = map[string]*webhttp.Backend{}
	}
	all.byKey[key] = b
	return b, nil
}

// of returns the backend of a route's key, nil if there is none.
func (b *Backends) of(key string) *webhttp.Backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byKey[key]
}

// All returns the backends of all configurations so far, by the keys of their routes.
func (b *Backends) All() map[string]*webhttp.Backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make(map[string]*webhttp.Backend, len(b.byKey))
	for key, backend := range b.byKey {
		list[key] = backend
	}
	return list
}

// close waits until the backends know about the ends of all connections.
func (b *Backends) close() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), backendCloseTimeout)
	defer cancel()
	for _, backend := range b.All() {
		err = errors.Join(err, backend.Close(ctx))
	}
	return err
}
