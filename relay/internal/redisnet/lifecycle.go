package redisnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// Lifecycle is the life of a channel layer: started once, running goroutines, closed once. The zero value is not
// started.
type Lifecycle struct {
	mu      sync.Mutex
	started bool
	closed  bool
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Start calls begin, which starts the layer's goroutines with [Lifecycle.Go]. ctx ends with Stop.
func (l *Lifecycle) Start(layer string, begin func(ctx context.Context)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.closed {
		return fmt.Errorf("%s channel layer: started already: %w", layer, relay.ErrClosed)
	}
	l.started = true
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	begin(ctx)
	return nil
}

// Go runs a goroutine that Stop waits for.
func (l *Lifecycle) Go(f func()) { l.running.Go(f) }

// Close marks the layer closed. first is whether this is the first call, and started whether there is anything to stop.
func (l *Lifecycle) Close() (first, started bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = !l.closed
	l.closed = true
	return first, l.started
}

// Stop ends the context of a started layer and returns a channel that is closed once every goroutine has ended.
func (l *Lifecycle) Stop() <-chan struct{} {
	l.stop()
	stopped := make(chan struct{})
	go func() {
		l.running.Wait()
		close(stopped)
	}()
	return stopped
}

// Pauses between attempts to connect; each is varied by half.
const (
	reconnectPauseMin = 50 * time.Millisecond
	reconnectPauseMax = 500 * time.Millisecond
	// steadyConnection is how long a connection lasts before the next pause is the shortest again.
	steadyConnection = time.Second
)

// ErrReplaced ends a session that works, because of new settings, or because the host is greeted again.
var ErrReplaced = errors.New("the connection is replaced")

// KeepConnected runs sessions with a host until ctx ends. A session connects, works, and returns why the connection
// ended.
func (h *Health) KeepConnected(ctx context.Context, host int, session func(ctx context.Context) error) {
	pause := reconnectPauseMin
	for {
		began := time.Now()
		err := session(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrReplaced) {
			h.Replaced(host)
			pause = reconnectPauseMin
			continue
		}
		h.Disconnected(host, err)
		if errors.Is(err, ErrFormer) { // The sentinels have named another master already.
			continue
		}
		if time.Since(began) > steadyConnection {
			pause = reconnectPauseMin
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, reconnectPauseMax)
	}
}
