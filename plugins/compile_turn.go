package plugins

import (
	"context"
	"fmt"
	"time"
)

// maxCompilations bounds the modules that are compiled at a time, besides one for each plugin.
const maxCompilations = 4

// turn serializes the compilations of a plugin.
type turn struct {
	taken chan struct{}
	users int
}

// inTurn runs a compilation of a plugin: one at a time, so that a plugin's modules do not delay other plugins, and
// maxCompilations of all plugins.
func (cs *codes) inTurn(ctx context.Context, plugin string, compile func() error) error {
	cs.mu.Lock()
	t := cs.busy[plugin]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		cs.busy[plugin] = t
	}
	t.users++
	cs.mu.Unlock()
	defer func() {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(cs.busy, plugin)
		}
	}()
	for _, gate := range []chan struct{}{t.taken, cs.running} {
		select {
		case gate <- struct{}{}:
			defer func() { <-gate }()
		case <-ctx.Done():
			return fmt.Errorf("wait for other compilations: %w", context.Cause(ctx))
		}
	}
	return compile()
}

// closeTimeout bounds how long closing a pipeline waits for the processes of its Compiler, which are being killed.
const closeTimeout = 500 * time.Millisecond

// awaitCompiler waits a little for canceled compilations to leave nothing behind. No further ones start.
func (cs *codes) awaitCompiler() {
	if cs.compiler == nil {
		return
	}
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	for range cap(cs.running) {
		select {
		case cs.running <- struct{}{}:
		case <-timeout.C:
			return
		}
	}
}
