package mesh

import (
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/mesh/site"
	"github.com/edgerelay/edgerelay/internal/mesh/wire"
)

// links are scenarios of the network between nodes.
var links = []scenario{
	{
		name: "baseline", short: true,
		fault:  func(p *played) { p.Pass(inShort(4*time.Second, 10*time.Second)) },
		limits: limits{gap: 2 * time.Second, late: 2 * time.Second},
	},
	{
		name: "delay of 80 ± 20 ms",
		fault: func(p *played) {
			p.all(wire.Rule{Delay: 80 * time.Millisecond, Jitter: 20 * time.Millisecond}, 20*time.Second)
		},
		limits: limits{gap: 2 * time.Second, late: 2 * time.Second},
	},
	{
		name:   "2 % of packets lost",
		fault:  func(p *played) { p.all(wire.Rule{Loss: 0.02}, 20*time.Second) },
		limits: limits{gap: 3 * time.Second, late: 3 * time.Second},
	},
	{
		name:   "5 % of packets reordered, 1 % doubled",
		fault:  func(p *played) { p.all(wire.Rule{Reorder: 0.05, Duplicate: 0.01}, 20*time.Second) },
		limits: limits{gap: 2 * time.Second, late: 2 * time.Second},
	},
	{
		name:    "1 Mbit/s on the link of a node, events of 2 KiB that do not compress",
		options: site.Options{Size: 2048, Random: true, Clients: 10, Settle: 90 * time.Second},
		fault: func(p *played) {
			p.link(0, wire.Rule{Rate: 1_000_000})
			p.Pass(90 * time.Second)
		},
		limits: limits{lossy: true, late: 75 * time.Second},
	},
	{
		name:    "1 Mbit/s on the link of a node, events of 2 KiB",
		options: site.Options{Size: 2048, Clients: 10, Settle: 90 * time.Second},
		fault: func(p *played) {
			p.link(0, wire.Rule{Rate: 1_000_000})
			p.Pass(40 * time.Second)
		},
		limits: limits{lossy: true, late: 75 * time.Second},
	},
	down(10, true, limits{back: time.Second}),
	down(35, false, limits{back: 2 * time.Second}),
	down(55, false, limits{back: 2 * time.Second}),
	down(90, false, limits{lossy: true, back: 2 * time.Second}),
	// Older events come first, group by group, and no faster than three times their pace.
	withHistory(down(90, false, limits{told: true, back: 10 * time.Second})),
	{
		name: "packets from one node to another dropped for 20 s, the others pass",
		fault: func(p *played) {
			p.Pass(3 * time.Second)
			p.Switch.Set(p.Nodes[0].Port(), p.Nodes[1].Port(), wire.Rule{Down: true})
			p.Pass(20 * time.Second)
			p.Switch.Reset()
			p.Repaired()
			p.Pass(10 * time.Second)
		},
		limits: limits{back: 2 * time.Second},
	},
	{
		name:    "MTU black hole for 30 s, events of 5 KiB",
		options: site.Options{Size: 5120, Random: true, Clients: 15, Rate: 40}, // events of 33 s fit into a peer's queue
		fault: func(p *played) {
			p.Pass(3 * time.Second)
			p.link(0, wire.Rule{MTU: 600})
			p.Pass(30 * time.Second)
			p.Switch.Reset()
			p.Repaired()
			p.Pass(15 * time.Second)
		},
		limits: limits{back: 5 * time.Second, gap: 15 * time.Second},
	},
	{
		name:    "link between a node and its Redis cut for 10 s",
		options: site.Options{RedisApart: true},
		fault: func(p *played) {
			p.Pass(3 * time.Second)
			p.Switch.SetBoth(p.Nodes[0].Port(), p.Nodes[0].RedisPort(), wire.Rule{Down: true})
			p.Pass(10 * time.Second)
			p.Switch.Reset()
			p.Repaired()
			p.Pass(10 * time.Second)
		},
		limits: limits{back: 3 * time.Second},
	},
}

// inShort returns one of two times, by the form of the test.
func inShort(short, otherwise time.Duration) time.Duration {
	if full() {
		return otherwise
	}
	return short
}

// down is a scenario in which the link of a node is down for some seconds.
func down(seconds int, short bool, l limits) scenario {
	length := time.Duration(seconds) * time.Second
	return scenario{
		name: "link of a node down for " + length.String(), short: short,
		fault: func(p *played) {
			p.Pass(3 * time.Second)
			p.link(0, wire.Rule{Down: true})
			p.Pass(length)
			p.Switch.Reset()
			p.Repaired()
			p.Pass(inShort(5*time.Second, 10*time.Second))
		},
		limits: l,
	}
}

// withHistory keeps a history on all nodes in a scenario.
func withHistory(s scenario) scenario {
	s.name += ", with a history"
	s.options.History = true
	return s
}

// all applies a rule to every frame for some time.
func (p *played) all(rule wire.Rule, length time.Duration) {
	for _, n := range p.Nodes {
		p.Switch.Set(n.Port(), wire.Any, rule)
	}
	p.Pass(length)
	p.Switch.Reset()
}

// link applies a rule to both directions of a node's link.
func (p *played) link(node int, rule wire.Rule) {
	p.Switch.Set(p.Nodes[node].Port(), wire.Any, rule)
	p.Switch.Set(wire.Any, p.Nodes[node].Port(), rule)
}

func TestLinks(t *testing.T) { playAll(t, links, variants) }
