package hostile

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/plugins"
	"github.com/edgerelay/edgerelay/relay"
)

const (
	// clientsOfHostile is the number of clients of a hostile function at a time.
	clientsOfHostile = 16
	// messagesOfClient is how many messages each of them sends before it leaves.
	messagesOfClient = 8
)

// ofClients reports whether clients, and alarms, call the plugin, instead of events.
func (k *callKind) ofClients() bool {
	return k.hook&(plugins.OnConnect|plugins.OnMessage|plugins.OnClose|plugins.OnAlarm) != 0
}

// visit is the visit of a client to a hostile function, or an alarm.
func (k *callKind) visit(ctx context.Context, p *plugins.Pipeline) {
	if k.hook == plugins.OnAlarm {
		_ = p.Alarm(ctx, "hostile", "name", []byte("{}"), nil)
		return
	}
	c, _, err := p.Connect(ctx, "hostile", plugins.NewConnectionID(), []byte(`{"params":{}}`))
	if err != nil {
		return
	}
	c.Open(sink{})
	for range messagesOfClient {
		_ = c.Message(true, []byte(`{"a":1}`))
	}
	c.Ended(1001, "")
}

// sink is a client that reads everything.
type sink struct{}

func (sink) Perform([]plugins.Action) {}

// measureVisit returns the shortest of three visits of a client that is alone, as if it had made one call, and the
// memory of an instance on average: that of all together has a bound of as many times an instance's.
func (k *callKind) measureVisit(t *testing.T, spec plugins.Spec) (call time.Duration, memory uint64) {
	n := startNode(t, plugins.Options{}, spec)
	defer n.close(t)
	call = time.Hour
	for range attempts {
		before := n.pipeline.Health()[1].Calls
		began := time.Now()
		k.visit(context.Background(), n.pipeline)
		h := n.pipeline.Health()[1]
		if calls := h.Calls - before; calls > 0 {
			call = min(call, time.Since(began)/time.Duration(calls))
		}
		memory = max(memory, h.Memory/uint64(h.Instances+1)) // with the spare one
	}
	return call, memory
}

// store answers each request on another goroutine, as a store does, and keeps nothing.
type store struct {
	running sync.WaitGroup
	stopped atomic.Bool
}

// Start implements [plugins.Service].
func (s *store) Start(r *plugins.Request, done func(plugins.Response)) {
	if s.stopped.Load() {
		done(plugins.Response{Status: plugins.StatusUnavailable})
		return
	}
	s.running.Go(func() { done(plugins.Response{Body: r.Value}) })
}

// publish has the plugins of a node process what plugins publish, as the channel layer does: in order, and beyond a
// bound not at all.
func (n *node) publish() (stop func()) {
	messages, end := make(chan relay.Event, 4096), make(chan struct{})
	n.pipeline.SetPublisher(func(_ string, a *plugins.Action) {
		select {
		case messages <- relay.Event{Group: a.Group, Text: a.Payload, Sender: relay.HopSender(a.Hops), Sent: time.Now()}:
		default:
		}
	})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case ev := <-messages:
				n.forward(n.lanes.Intercept([]relay.Event{ev}))
			case <-end:
				return
			}
		}
	})
	return func() {
		close(end)
		running.Wait()
	}
}
