package backplane

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxMetricsName bounds the names in a metrics message, and maxMetricsValue the value, in bytes.
	maxMetricsName, maxMetricsValue = 255, 1 << 20
	// maxMetricsKeys bounds the keys that are stored at a time. AWX has about ten keys per node.
	maxMetricsKeys = 5000
	// metricsLifetime is the lifetime of a key. AWX sends its metrics every few seconds, and reads all existing
	// keys.
	metricsLifetime = 10 * time.Minute
)

// metricsKey returns the key and the value that AWX stores for a message of the group metrics.
func metricsKey(text []byte) (key, value string, ok bool) {
	var m struct {
		Instance  string `json:"instance"`
		Namespace string `json:"metrics_namespace"`
		Metrics   string `json:"metrics"`
	}
	if json.Unmarshal(text, &m) != nil || m.Instance == "" || len(m.Metrics) > maxMetricsValue ||
		!metricsName(m.Instance) || m.Namespace != "" && !metricsName(m.Namespace) {
		return "", "", false
	}
	key = "awx_metrics"
	if m.Namespace != "" { // absent from older nodes
		key += "-" + m.Namespace
	}
	return key + "_instance_" + m.Instance, m.Metrics, true
}

// metricsName reports whether a name can be part of a key. AWX uses host names, UUIDs and words.
func metricsName(name string) bool {
	return name != "" && len(name) <= maxMetricsName &&
		strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) < 0
}

// metricsKeys holds the keys that were stored within their lifetime.
type metricsKeys map[string]time.Time

// reserve reports whether a key may be stored now.
func (k metricsKeys) reserve(key string, now time.Time) bool {
	if _, ok := k[key]; !ok && len(k) >= maxMetricsKeys {
		for other, stored := range k {
			if now.Sub(stored) > metricsLifetime {
				delete(k, other)
			}
		}
		if len(k) >= maxMetricsKeys {
			return false
		}
	}
	k[key] = now
	return true
}

// storeMetrics stores messages of peers for the group metrics until the backplane ends.
func (b *Backplane) storeMetrics() {
	failing, keys := false, metricsKeys{}
	for {
		var text []byte
		select {
		case <-b.ctx.Done():
			return
		case text = <-b.metricsQueue:
		}
		to, ok := b.hub.Broker().(relay.KeyStore)
		if !ok {
			continue
		}
		key, value, ok := metricsKey(text)
		if !ok {
			b.stats.drop(faultBroken, 1)
			continue
		}
		if !keys.reserve(key, time.Now()) {
			b.stats.drop(faultLimit, 1)
			continue
		}
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		err := to.Set(ctx, key, value, metricsLifetime)
		cancel()
		if err != nil && !failing && b.ctx.Err() == nil {
			b.log.Warn("metrics of peers not stored", "error", err)
		}
		failing = err != nil
	}
}
