package mesh

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/site"
	"github.com/edgerelay/edgerelay/internal/mesh/wire"
)

// browsers are scenarios of the clients' network. Clients of their node on a good network are not affected.
var browsers = []scenario{
	{
		name: "browsers behind a link that is down for 10 s", short: true,
		options: site.Options{Size: 300},
		prepare: func(p *played) { p.AddBrowsers(p.Nodes[0], 6) },
		fault: func(p *played) {
			p.Pass(2 * time.Second)
			p.browserLink(wire.Rule{Down: true})
			p.Pass(10 * time.Second)
			p.Switch.Reset()
			p.Repaired()
			p.Pass(inShort(5*time.Second, 8*time.Second))
		},
		limits: limits{back: 2 * time.Second},
	},
	{
		name:    "the same with more events than the queue of a client holds",
		options: site.Options{Size: 4096, Clients: 10},
		prepare: func(p *played) { p.AddBrowsers(p.Nodes[0], 6) },
		fault: func(p *played) {
			p.Pass(2 * time.Second)
			p.browserLink(wire.Rule{Down: true})
			p.Pass(10 * time.Second)
			p.Switch.Reset()
			p.Repaired()
			p.Pass(15 * time.Second)
		},
		limits: limits{lossy: true, back: 2 * time.Second},
	},
	{
		name:    "browsers on a line of 20 Mbit/s while their node catches up on 35 s",
		options: site.Options{Size: 4096, Clients: 10},
		prepare: func(p *played) { p.AddBrowsers(p.Nodes[0], 1) },
		fault: func(p *played) {
			p.browserLink(wire.Rule{Rate: 20_000_000, Queue: 256 << 10})
			p.Pass(3 * time.Second)
			p.pairs(0, wire.Rule{Down: true})
			p.Pass(35 * time.Second)
			p.pairs(0, wire.Rule{})
			p.Repaired()
			p.Pass(25 * time.Second)
		},
		limits: limits{lossy: true},
	},
}

func (p *played) browserLink(rule wire.Rule) {
	p.Switch.Set(site.Browsers, wire.Any, rule)
	p.Switch.Set(wire.Any, site.Browsers, rule)
}

// pairs applies a rule between a node and the others.
func (p *played) pairs(node int, rule wire.Rule) {
	for _, other := range p.Nodes {
		if other != p.Nodes[node] {
			p.Switch.SetBoth(p.Nodes[node].Port(), other.Port(), rule)
		}
	}
}

func TestBrowsers(t *testing.T) { playAll(t, browsers, []variant{{}}) }
