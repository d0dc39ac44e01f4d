package pluginhost

import (
	"context"
	"fmt"
)

// changeLock lets one change of a plugin's module happen at a time. Changes of other plugins, and reloads, do not wait
// for it.
type changeLock struct {
	held chan struct{} // has an element while the lock is held
	// cancel ends the change of the watcher that holds the lock; nil for others. Host.mu guards it.
	cancel context.CancelFunc
}

func (h *Host) changeLockOf(name string) *changeLock {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.changes[name]
	if l == nil {
		l = &changeLock{held: make(chan struct{}, 1)}
		h.changes[name] = l
	}
	return l
}

// acquire waits for the lock of a plugin. It ends a change of the watcher: an operator's deployment does not wait for a
// file that takes long to compile.
func (h *Host) acquire(ctx context.Context, name string) (release func(), err error) {
	l := h.changeLockOf(name)
	h.mu.Lock()
	if l.cancel != nil {
		l.cancel()
	}
	h.mu.Unlock()
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("plugin %s: %w", name, ErrBusy)
	case <-h.closing.Done():
		return nil, fmt.Errorf("plugin %s: the relay is stopping", name)
	}
}

// tryAcquire acquires the lock of a plugin for the watcher, if the lock is free.
func (h *Host) tryAcquire(name string) (ctx context.Context, release func(), ok bool) {
	l := h.changeLockOf(name)
	select {
	case l.held <- struct{}{}:
	default:
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(h.closing)
	h.mu.Lock()
	l.cancel = cancel
	h.mu.Unlock()
	return ctx, func() {
		h.mu.Lock()
		l.cancel = nil
		h.mu.Unlock()
		cancel()
		<-l.held
	}, true
}
