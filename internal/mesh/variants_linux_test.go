package mesh

import (
	"os"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/internal/mesh/site"
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
	{name: "TLS between nodes", change: func(o *site.Options) { o.TLS = true }, scenarios: again},
	{name: "IPv6", change: func(o *site.Options) { o.IPv6 = true }, scenarios: again},
	{name: "10 nodes", change: func(o *site.Options) { o.Nodes, o.Clients = 10, 5 }, scenarios: again},
	{
		name:     "two versions of the relay",
		possible: func() bool { return os.Getenv(otherVariable) != "" },
		change: func(o *site.Options) {
			o.Binaries = []string{os.Getenv(peers.BinaryVariable), os.Getenv(otherVariable)}
		},
		scenarios: []string{again[0], again[1], "rolling restart"},
	},
}

// otherVariable names an environment variable with the path of another Caddy with the module.
const otherVariable = "MESH_OTHER"
