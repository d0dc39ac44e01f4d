//go:build !wasm

package edgerelay

import (
	"math"
	"strconv"
	"time"
)

// entryOverhead is what each entry of the store counts in addition to its text, in bytes.
const entryOverhead = 64

func (h *Host) get(key string) (string, bool) {
	e, ok := h.store[key]
	if ok && !e.expires.IsZero() && !h.now().Before(e.expires) {
		delete(h.store, key)
		return "", false
	}
	return e.value, ok
}

func (h *Host) set(key, value string, ttl int64) int32 {
	if value == "" {
		delete(h.store, key)
		return 0
	}
	return h.put(key, entry{value, h.expiry(ttl)})
}

// expiry returns when an entry ends; never without a TTL, or with one beyond the range of durations.
func (h *Host) expiry(ttl int64) time.Time {
	if ttl <= 0 || ttl > math.MaxInt64/int64(time.Millisecond) {
		return time.Time{}
	}
	return h.now().Add(time.Duration(ttl) * time.Millisecond)
}

func (h *Host) put(key string, e entry) int32 {
	limit := h.StoreLimit
	if limit == 0 {
		limit = 1 << 20
	}
	size := len(key) + len(e.value) + entryOverhead
	for k := range h.store {
		if v, ok := h.get(k); ok && k != key {
			size += len(k) + len(v) + entryOverhead
		}
	}
	if size > limit {
		return -1
	}
	if h.store == nil {
		h.store = map[string]entry{}
	}
	h.store[key] = e
	return 0
}

func (h *Host) incr(key string, delta, ttl int64) int64 {
	old, ok := h.get(key)
	if !ok {
		if h.put(key, entry{strconv.FormatInt(delta, 10), h.expiry(ttl)}) != 0 {
			return math.MinInt64
		}
		return delta
	}
	n, err := strconv.ParseInt(old, 10, 64)
	if err != nil || h.put(key, entry{strconv.FormatInt(n+delta, 10), h.store[key].expires}) != 0 {
		return math.MinInt64
	}
	return n + delta
}
