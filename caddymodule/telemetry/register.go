package telemetry

import (
	"errors"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/prometheus/client_golang/prometheus"
)

// Register adds the node's metrics to a configuration's registry, which is new with each.
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
