package backplane

import (
	"context"
	"encoding/json"
	"time"
)

// setter is a channel layer that can store a string beside the events, as Redis can.
type setter interface {
	Set(ctx context.Context, key, value string) error
}

// maxMetricsName bounds the names in a metrics message, in bytes.
const maxMetricsName = 512

// metricsKey reads a message of the group metrics: where AWX stores which value.
func metricsKey(text []byte) (key, value string, ok bool) {
	var m struct {
		Instance  string `json:"instance"`
		Namespace string `json:"metrics_namespace"`
		Metrics   string `json:"metrics"`
	}
	if json.Unmarshal(text, &m) != nil || m.Instance == "" || len(m.Instance)+len(m.Namespace) > maxMetricsName {
		return "", "", false
	}
	key = "awx_metrics"
	if m.Namespace != "" { // older nodes have none
		key += "-" + m.Namespace
	}
	return key + "_instance_" + m.Instance, m.Metrics, true
}

// storeMetrics stores what peers send for the group metrics, until the backplane ends.
func (b *Backplane) storeMetrics() {
	failing := false
	for {
		var text []byte
		select {
		case <-b.ctx.Done():
			return
		case text = <-b.store:
		}
		to, ok := b.hub.Broker().(setter)
		if !ok {
			continue
		}
		key, value, ok := metricsKey(text)
		if !ok {
			b.stats.drop(faultBroken, 1)
			continue
		}
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		err := to.Set(ctx, key, value)
		cancel()
		if err != nil && !failing && b.ctx.Err() == nil {
			b.log.Warn("metrics of other nodes cannot be stored", "error", err)
		}
		failing = err != nil
	}
}
