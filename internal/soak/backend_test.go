//go:build soak

package soak

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// backendClients is a part: clients whose messages a site answers over HTTP. The site gets each message once and in
// order, one request at a time for each client.
type backendClients struct {
	s     *site
	names atomic.Int64

	sent, answered, connections atomic.Int64
}

func (p *backendClients) run(ctx context.Context) {
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for ctx.Err() == nil {
				p.converse(ctx, fmt.Sprint("client", p.names.Add(1)))
			}
		})
	}
	all.Wait()
	p.s.backend.mu.Lock()
	defer p.s.backend.mu.Unlock()
	for _, f := range p.s.backend.faults {
		p.s.fault("backend: %s", f)
	}
	p.s.backend.faults = nil
}

// converse is a connection with some messages, each of which is answered.
func (p *backendClients) converse(ctx context.Context, name string) {
	raw, err := wstest.DialRaw(p.s.relay.URL+"/ws/backend/?"+name, "")
	if err != nil {
		testkit.Pause(ctx.Done(), 100*time.Millisecond)
		return
	}
	defer raw.Close()
	p.connections.Add(1)
	answered := 0
	for n := 0; n < 20 && ctx.Err() == nil; n++ {
		text := fmt.Sprint("message ", n)
		if raw.Send(text) != nil {
			break
		}
		p.sent.Add(1)
		got, err := raw.Next(testkit.Patience)
		if err != nil {
			break
		}
		if got != text {
			p.s.fault("backend: %s got %q, want %q", name, got, text)
			return
		}
		answered++
		testkit.Pause(ctx.Done(), 50*time.Millisecond)
	}
	p.answered.Add(int64(answered))
	heard := p.s.backend.take(name)
	for n, text := range heard {
		if text != fmt.Sprint("message ", n) {
			p.s.fault("backend: the site heard %q of %s", heard, name)
			return
		}
	}
	if len(heard) < answered {
		p.s.fault("backend: the site heard %d messages of %s, and answered %d", len(heard), name, answered)
	}
}

func (p *backendClients) work() []count {
	return []count{
		{name: "backend: connections", n: p.connections.Load()},
		{name: "messages", n: p.sent.Load()},
		{name: "answers", n: p.answered.Load()},
	}
}
