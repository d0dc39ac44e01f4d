package plugins

import (
	"maps"
	"sync"
)

// counters are the metrics that a plugin counts itself. Safe for concurrent use.
type counters struct {
	mu sync.Mutex
	m  map[string]uint64
}

// add returns 0, -1 for a bad name or delta, -2 for one name too many.
func (c *counters) add(name []byte, delta int64) int32 {
	if delta < 0 || !metricName(name) {
		return -1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.m[string(name)]; !ok && len(c.m) >= maxMetrics {
		return -2
	}
	if c.m == nil {
		c.m = map[string]uint64{}
	}
	c.m[string(name)] += uint64(delta)
	return 0
}

func (c *counters) snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.m)
}

func metricName(name []byte) bool {
	if len(name) == 0 || len(name) > maxMetricName {
		return false
	}
	for i, c := range name {
		if !(c >= 'a' && c <= 'z' || c == '_' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return true
}
