package cluster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/reconcile"
)

// A slot moves away and back while the end of a subscription is in flight. The late answer concerns the former
// subscription; the events of the new one are delivered.
func TestLateAnswerLeavesANewSubscription(t *testing.T) {
	s := DefaultSettings()
	s.Addresses = []string{"127.0.0.1:1"}
	b, err := New(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	b.ctx = context.Background()
	t.Cleanup(func() { _ = b.client.Close() })
	l := &listener{broker: b, groups: map[*group]bool{}, signal: make(chan struct{}, 1)}
	sent := func(k kind) command {
		t.Helper()
		tasks := b.groups.Next(2)
		if len(tasks) != 1 {
			t.Fatalf("%d tasks, want 1", len(tasks))
		}
		c := command{k, tasks[0]}
		if k == subscribe {
			c.task.Entry.Value.at = l
			l.groups[c.task.Entry] = true
		}
		l.sent = append(l.sent, c)
		return c
	}
	g, _ := b.groups.Want("g", &reconcile.Ticket[assignment]{})
	sent(subscribe)
	channel := []byte(b.channel("g"))
	l.pushed("ssubscribe", [][]byte{channel})
	l.sent = append(l.sent, command{kind: probe})
	b.groups.Drop("g")
	sent(unsubscribe)
	var ticket reconcile.Ticket[assignment]
	b.groups.Want("g", &ticket)
	l.pushed("sunsubscribe", [][]byte{channel}) // The slot has moved away.
	sent(subscribe)
	l.answered(probe, "")
	l.pushed("sunsubscribe", [][]byte{channel}) // the answer
	l.pushed("ssubscribe", [][]byte{channel})
	if !g.InPlace() || g.Value.at != l || !l.groups[g] {
		t.Errorf("in place %v, at the listener %v; want a subscription there", g.InPlace(), g.Value.at == l)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := ticket.Wait(ctx, &b.mu); err != nil {
		t.Error("the caller still waits:", err)
	}
}
