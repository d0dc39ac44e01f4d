package mesh

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/site"
	"github.com/edgerelay/edgerelay/internal/mesh/wire"
	"github.com/edgerelay/edgerelay/internal/testkit"
)

// changes are scenarios in which the set of nodes changes, or what DNS says of it.
var changes = []scenario{
	{
		name:    "DNS: node removed though alive, server failure, back",
		options: site.Options{DNS: true},
		fault: func(p *played) {
			last := len(p.Nodes) - 1
			p.DNS.AnswerNodes(p.Nodes[:last]...)
			p.Pass(15 * time.Second)
			p.DNS.Answer(func() ([]netip.Addr, error) { return nil, site.ErrServerFailure })
			p.Pass(8 * time.Second)
			p.DNS.AnswerNodes(p.Nodes...)
			p.Pass(8 * time.Second)
		},
		limits: limits{gap: 2 * time.Second},
	},
	{
		name:    "DNS answers all nodes but one at random for 35 s",
		options: site.Options{DNS: true},
		fault: func(p *played) {
			p.DNS.AnswerSome(len(p.Nodes)-1, p.Nodes...)
			p.Pass(35 * time.Second)
		},
		limits: limits{gap: 2 * time.Second},
	},
	{
		name: "node killed with its link, back after 2 s at a new address on its Redis", short: true,
		options: site.Options{RedisApart: true},
		fault:   replace,
		limits:  limits{lossy: true, closing: true, back: heardWithin},
	},
	{
		name:   "rolling restart",
		fault:  rollingRestart,
		limits: limits{lossy: true, closing: true},
	},
	{
		name: "all nodes dial each other at once", short: true,
		fault:  oneLinkPerPair,
		limits: limits{gap: 2 * time.Second},
	},
}

// heardWithin bounds the time from the first link of a node that takes another one's place to its events.
const heardWithin = 2 * time.Second

func replace(p *played) {
	n := p.Nodes[0]
	p.Pass(3 * time.Second)
	p.link(0, wire.Rule{Down: true})
	back := p.Away(n)
	n.Kill()
	p.Pass(2 * time.Second)
	p.Move(n)
	began := time.Now()
	n.Start()
	n.AwaitReady()
	p.AwaitSources(n, len(p.Nodes)-1)
	p.remark("connected %.1f s after its start", time.Since(began).Seconds())
	p.Repaired()
	p.Pass(heardWithin) // until then, its peers may send to the run before
	back()
	p.Pass(inShort(5*time.Second, 28*time.Second)) // a dead link needs less to time out
}

func rollingRestart(p *played) {
	for _, n := range p.Nodes {
		p.Pass(2 * time.Second)
		back := p.Away(n)
		n.Stop()
		n.Start()
		n.AwaitReady()
		p.AwaitSources(n, len(p.Nodes)-1)
		back()
	}
	p.Pass(5 * time.Second)
}

// linksSettle bounds the time until two links that were made at once are one.
const linksSettle = 15 * time.Second

func oneLinkPerPair(p *played) {
	pairs := len(p.Nodes) * (len(p.Nodes) - 1) / 2
	count := func() (ends, missing int) {
		for _, n := range p.Nodes {
			of := n.Connections()
			for _, other := range p.Nodes {
				if c := of[other.Addr()]; other != n && c == 0 {
					missing++
				} else {
					ends += c
				}
			}
		}
		return ends, missing
	}
	began := time.Now()
	err := testkit.Poll(testkit.Scale(linksSettle), nil, func() error {
		if ends, missing := count(); ends != 2*pairs || missing > 0 {
			time.Sleep(200 * time.Millisecond) // each attempt starts programs
			return fmt.Errorf("%d ends of links between %d pairs of nodes, %d missing", ends, pairs, missing)
		}
		return nil
	})
	if err != nil {
		p.fail("%v after %v", err, testkit.Scale(linksSettle))
	}
	ends, _ := count()
	p.remark("%d ends of links for %d pairs of nodes after %.1f s", ends, pairs, time.Since(began).Seconds())
	p.Pass(3 * time.Second)
}

func TestChanges(t *testing.T) { playAll(t, changes, variants) }
