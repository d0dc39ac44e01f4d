package plugins

import (
	"maps"
	"sync"
)

// counters holds the metrics that the plugin itself counts. Methods are safe for concurrent use.
type counters struct {
	mu     sync.Mutex // guards values
	values map[string]uint64
}

// add adds delta to a counter. It returns 0, -1 for an invalid name or a negative delta, or -2 if the plugin already
// has maxMetrics counters.
func (c *counters) add(name []byte, delta int64) int32 {
	if delta < 0 || !validMetricName(name) {
		return -1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.values[string(name)]; !ok && len(c.values) >= maxMetrics {
		return -2
	}
	if c.values == nil {
		c.values = map[string]uint64{}
	}
	c.values[string(name)] += uint64(delta)
	return 0
}

func (c *counters) snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.values)
}

func validMetricName(name []byte) bool {
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
