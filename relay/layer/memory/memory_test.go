package memory_test

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/history/ring"
	"github.com/edgerelay/edgerelay/relay/layer/memory"
	"github.com/edgerelay/edgerelay/relay/relaytest"
)

func TestSuite(t *testing.T) {
	layer := memory.NewLayer()
	relaytest.Run(t, func(testing.TB) relay.Broker { return layer.Broker() })
}

// recorder is an engine that only records events. It returns the position of the last one.
type recorder struct {
	*ring.Ring
	at chan relay.Position
}

func (r *recorder) Deliver(events []relay.Event) {
	r.Record(events)
	r.at <- events[0].Position
}

// The layer delivers within Publish, so that a ring is exact.
func TestHistorySuite(t *testing.T) {
	relaytest.RunHistory(t, relaytest.Histories{
		Start: func(t testing.TB, limits relay.HistoryLimits) *relaytest.HistoryNode {
			policy := relay.HistoryPolicy{Rules: []relay.HistoryRule{{Pattern: "job_*", HistoryLimits: limits}}}
			r := &recorder{ring.New(policy, time.Now), make(chan relay.Position, 1000)}
			b := memory.NewLayer().Broker()
			b.ReceiveMessages(true)
			if err := b.Start(r); err != nil {
				t.Fatal(err)
			}
			return &relaytest.HistoryNode{
				History: r.Ring,
				Join: func(groups ...string) {
					_ = b.Join(t.Context(), groups...)
					r.Joined(groups)
				},
				Leave: func(groups ...string) {
					b.Leave(groups...)
					r.Left(groups)
				},
				Publish: func(t testing.TB, group, text string) (p relay.Position) {
					if receipt, err := b.Publish(t.Context(), group, []byte(text)); err != nil || receipt.Members == 0 {
						return p
					}
					return <-r.at // perhaps of another publisher, if there are several
				},
				PublishMessage: func(t testing.TB, m relay.Message) (p relay.Position) {
					if receipt, err := b.PublishMessage(t.Context(), m); err != nil || receipt.Members == 0 {
						return p
					}
					return <-r.at
				},
			}
		},
	})
}
