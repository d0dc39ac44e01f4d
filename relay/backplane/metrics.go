package backplane

import (
	"context"
	"encoding/json"
	"strings"
	"time"
)

// setter is a channel layer that can store a string beside the events, as Redis can.
type setter interface {
	// Set stores it for a time.
	Set(ctx context.Context, key, value string, lifetime time.Duration) error
}

const (
	// maxMetricsName bounds the names in a metrics message, and maxMetricsValue the value, in bytes.
	maxMetricsName, maxMetricsValue = 255, 1 << 20
	// maxMetricsKeys bounds the keys that are stored at a time. AWX has some ten for each node.
	maxMetricsKeys = 5000
	// metricsLifetime is how long a key stays. AWX sends its metrics every few seconds, and reads the keys that there
	// are.
	metricsLifetime = 10 * time.Minute
)

// metricsKey reads a message of the group metrics: where AWX stores which value.
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
	if m.Namespace != "" { // older nodes have none
		key += "-" + m.Namespace
	}
	return key + "_instance_" + m.Instance, m.Metrics, true
}

// metricsName reports whether a name can be part of a key: AWX's are host names, UUIDs and words.
func metricsName(name string) bool {
	return name != "" && len(name) <= maxMetricsName &&
		strings.IndexFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) < 0
}

// metricsKeys are the keys that were stored within their lifetime.
type metricsKeys map[string]time.Time

// take reports whether a key may be stored now.
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

// storeMetrics stores what peers send for the group metrics, until the backplane ends.
func (b *Backplane) storeMetrics() {
	failing, keys := false, metricsKeys{}
	for {
		var text []byte
		select {
		case <-b.ctx.Done():
			return
		case text = <-b.metricsQueue:
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
		if !keys.reserve(key, time.Now()) {
			b.stats.drop(faultLimit, 1)
			continue
		}
		ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
		err := to.Set(ctx, key, value, metricsLifetime)
		cancel()
		if err != nil && !failing && b.ctx.Err() == nil {
			b.log.Warn("metrics of other nodes cannot be stored", "error", err)
		}
		failing = err != nil
	}
}
