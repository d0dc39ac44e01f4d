package telemetry

import (
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

var (
	descCompressClients    = desc("compression_clients", "Open websocket connections that agreed on permessage-deflate.")
	descCompressDeliveries = desc("compression_deliveries_total",
		"Deliveries of events that were compressed, by the form that the client got: chained to the group's previous "+
			"event, alone, each for clients without a window, or plain.", "form")
	descCompressBefore = desc("compression_before_bytes_total",
		"Bytes that the frames of these deliveries have without compression, by form.", "form")
	descCompressAfter  = desc("compression_after_bytes_total", "Bytes of these frames as written, by form.", "form")
	descCompressMemory = desc("compression_memory_bytes",
		"Memory of the events that are kept because their groups' next events may refer to them.")
)

// collectCompression collects the metrics of the compression.
func collectCompression(out sink, s hub.CompressionStats) {
	out.gauge(descCompressClients, float64(s.Sessions))
	for f, n := range s.Forms {
		form := relay.Form(f).String()
		out.count(descCompressDeliveries, n.Deliveries, form)
		out.count(descCompressBefore, n.Before, form)
		out.count(descCompressAfter, n.After, form)
	}
	out.gauge(descCompressMemory, float64(s.Memory))
}
