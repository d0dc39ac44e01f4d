package telemetry

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgerelay/edgerelay/caddymodule/node"
)

// Register adds the node's metrics to a registry. Each configuration has a registry of its own. A nil registry is
// ignored. An error is logged and leaves the configuration without metrics.
func Register(n *node.Node, r *prometheus.Registry) {
	if r == nil {
		return
	}
	for _, c := range []prometheus.Collector{collector{n}, awxCollector{n}} {
		if err := r.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			n.Log.Error("metrics are not available", "error", err)
		}
	}
}
