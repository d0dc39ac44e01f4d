package admin

import (
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// CompressionStatus describes the compression of events.
type CompressionStatus struct {
	// Enabled tells that events are compressed.
	Enabled bool `json:"enabled"`
	// Clients is the number of connections whose clients have agreed on permessage-deflate.
	Clients int `json:"clients"`
	// Deliveries counts the deliveries of compressed events by form: chained, alone, each, plain.
	Deliveries map[string]uint64 `json:"deliveries"`
	// Before is the number of bytes of these deliveries without compression, After the number of bytes written.
	Before uint64 `json:"bytes_before"`
	After  uint64 `json:"bytes_after"`
	// Memory is the number of bytes of events that later events may refer to.
	Memory int `json:"memory_bytes"`
}

// compressionStatus describes the compression.
func compressionStatus(n *node.Node) CompressionStatus {
	s := n.Hub.CompressionStats()
	c := CompressionStatus{
		Enabled: n.Hub.Compresses(), Clients: s.Sessions, Memory: s.Memory, Deliveries: map[string]uint64{},
	}
	for f, form := range s.Forms {
		if form.Deliveries > 0 {
			c.Deliveries[relay.Form(f).String()] = form.Deliveries
		}
		c.Before += form.Before
		c.After += form.After
	}
	return c
}
