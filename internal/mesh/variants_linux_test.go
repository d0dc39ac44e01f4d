package mesh

import (
	"os"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// again are the scenarios that are played in each kind of mesh.
var again = []string{
	"baseline",
	"link of a node down for 10s",
	"link of a node down for 35s",
	"packets from one node to another dropped for 20 s, the others pass",
	"node killed with its link, back after 2 s at a new address on its Redis",
	"all nodes dial each other at once",
}

// variants are the kinds of meshes; the first is the usual one.
var variants = []variant{
	{},
	{name: "TLS between nodes", change: func(s *scenario) { s.options.TLS = true }, scenarios: again},
	{name: "IPv6", change: func(s *scenario) { s.options.IPv6 = true }, scenarios: again},
	{name: "10 nodes", change: func(s *scenario) { s.options.Nodes, s.options.Clients = 10, 5 }, scenarios: again},
	{
		name:      "two versions of the relay",
		possible:  func() bool { return os.Getenv(otherVariable) != "" },
		change:    withOther,
		scenarios: []string{again[0], again[1], again[2], "rolling restart"},
	},
	{
		name: "one node of AWX 9 to 21", change: func(s *scenario) { s.python(peers.BroadcastNode) },
		scenarios: []string{again[0], again[1], again[2], again[3]},
	},
	{
		name: "one node of AWX 22 and later", change: func(s *scenario) { s.python(peers.RelayNode) },
		scenarios: []string{again[0], again[1], again[2], again[3]},
	},
}

// otherVariable names an environment variable with the path of another Caddy with the module.
const otherVariable = "MESH_OTHER"

// withOther makes every second node one of the other version, which need not count its losses.
func withOther(s *scenario) {
	s.options.Binaries = []string{os.Getenv(peers.BinaryVariable), os.Getenv(otherVariable)}
	s.limits.foreign = true
	if s.limits.back > 0 {
		s.limits.back = 5 * time.Second // the longest pause between attempts; the other version does not probe links
	}
}

// python adds a node of AWX. Events between it and a relay are lost when their connection breaks, and it has no
// counters. The bounds of time are those of relays.
func (s *scenario) python(generation string) {
	s.options.Python = generation
	s.options.Nodes, s.options.Rate = 3, 10 // what Python manages on a busy machine
	s.limits.foreign, s.limits.foreignLossy = true, s.name != again[0]
	s.limits.back, s.limits.late, s.limits.gap = 0, 0, 0
}
