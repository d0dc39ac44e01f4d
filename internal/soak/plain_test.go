//go:build soak

package soak

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
	"github.com/edgerelay/edgerelay/relay/layer/redis"
)

const (
	plainGroups = 12
	plainRate   = 300 // events a second
	crowd       = 30
	dawdlers    = 6
)

// plain is a part: events in AWX's protocol, with a witness of each group that stays, a crowd that comes and goes, and
// clients that do not read.
type plain struct {
	s       *site
	scale   func(time.Duration) time.Duration
	emitter *redis.Broker
	ledgers []*ledger
	guests  guests

	total account
	slow  int64
	drops int64 // that the plugin counts
}

func newPlain(s *site, scale func(time.Duration) time.Duration) *plain {
	p := &plain{s: s, scale: scale, emitter: s.emitter(s.store)}
	for i := range plainGroups {
		p.ledgers = append(p.ledgers, &ledger{group: fmt.Sprint("job_events-", i), near: s.trouble.near})
	}
	return p
}

func (p *plain) run(ctx context.Context) {
	var witnesses []*wstest.Raw
	var ends []<-chan error
	for _, l := range p.ledgers {
		raw, ended, err := witness(p.s.relay.URL, l)
		if err != nil {
			p.s.fault("a witness: %v", err)
			return
		}
		witnesses, ends = append(witnesses, raw), append(ends, ended)
	}
	var all sync.WaitGroup
	all.Go(func() { emit(ctx, p.emitter, p.ledgers, plainRate) })
	all.Go(func() { shout(ctx, p.emitter) })
	for range crowd {
		all.Go(func() { p.guests.comeAndGo(ctx, []string{p.s.relay.URL, p.s.near.URL}, plainGroups) })
	}
	for i := range dawdlers {
		all.Go(func() { p.guests.dawdle(ctx, p.s.relay.URL, fmt.Sprint(loud, "-", i%2), p.scale(10*time.Second)) })
	}
	all.Wait()
	testkit.Pause(nil, time.Second) // for the last event; what is missing then is found out in the end
	for i, ended := range ends {
		select {
		case err := <-ended:
			p.s.fault("the witness of %s was cut off: %v", p.ledgers[i].group, err)
		default:
		}
		witnesses[i].Close()
	}
	m, err := metrics(p.s.relay)
	if err != nil {
		p.s.fault("metrics: %v", err)
		return
	}
	p.slow = int64(m[`edgerelay_losses_total{cause="overrun"}`])
	p.drops = int64(m[`edgerelay_plugin_verdicts_total{plugin="quiet",verdict="drop"}`])
}

// table accounts for the events, group by group and in all as in docs/reliability.md, and reports what is lost.
func (p *plain) table() string {
	var b strings.Builder
	out := tabwriter.NewWriter(&b, 2, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, a account) {
		fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", name, a.published, a.delivered, a.plugin, a.refused,
			a.withRedis, a.full, a.unknown)
	}
	fmt.Fprintf(out, "group\tpublished\tdelivered\tby plugin\trefused\twith redis\tfull\tunknown\t\n")
	for _, l := range p.ledgers {
		a, faults := l.close(func(e fate) bool { return p.s.trouble.happened(e.at, e.done, storeDown) })
		row(l.group, a)
		p.total.add(a)
		for _, f := range faults {
			p.s.t.Error(f)
		}
	}
	_ = out.Flush()
	fmt.Fprintf(&b, "\n| events for the witnesses, %d groups | count |\n|---|--:|\n", plainGroups)
	for _, line := range []struct {
		outcome string
		n       int
	}{
		{"published", p.total.published},
		{"delivered", p.total.delivered},
		{"dropped by the plugin, as intended", p.total.plugin},
		{"rejected with an error to the emitter", p.total.refused},
		{"lost with the memory of a stopped Redis", p.total.withRedis},
		{"not taken by a full mailbox", p.total.full},
		{"not accounted for", p.total.unknown},
	} {
		fmt.Fprintf(&b, "| %s | %d |\n", line.outcome, line.n)
	}
	if p.total.unknown != 0 {
		p.s.t.Errorf("%d events are lost, and no fault explains it", p.total.unknown)
	}
	if p.drops < int64(p.total.plugin) {
		p.s.t.Errorf("the plugin counts %d events that it dropped, of %d", p.drops, p.total.plugin)
	}
	return b.String()
}

func (p *plain) work() []count {
	return []count{
		{name: "events delivered", n: int64(p.total.delivered)},
		{name: "dropped by the plugin", n: int64(p.total.plugin)},
		{name: "guests served", n: p.guests.served.Load()},
		{name: "full queues of slow clients", n: p.slow},
	}
}
