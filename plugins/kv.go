package plugins

import (
	"math"
	"strconv"
	"sync"
	"time"
)

// store is the key-value store of one plugin. It is in memory, shared by the plugin's instances, and bounded in bytes
// of keys and values. Methods are safe for concurrent use.
type store struct {
	now func() time.Time

	mu          sync.Mutex // guards the fields below
	limit       int        // bytes
	entries     map[string]entry
	size        int   // bytes, with entryOverhead
	firstExpiry int64 // lower bound of all expiries; saves a full store a useless search
}

type entry struct {
	value   string
	expires int64 // ticks; 0: never
}

// entryOverhead is charged per entry in addition to its bytes, so that short values are not free.
const entryOverhead = 64

func newStore(limit int, now func() time.Time) *store {
	return &store{limit: limit, now: now, entries: map[string]entry{}, firstExpiry: math.MaxInt64}
}

// get appends the value of key to buf and reports whether there is one.
func (s *store) get(key, buf []byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.find(key)
	if !ok {
		return buf, false
	}
	return append(buf, e.value...), true
}

// set stores a value; an empty value deletes the key. It reports whether there was room.
func (s *store) set(key, value []byte, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(value) == 0 {
		s.remove(string(key))
		return true
	}
	return s.put(key, string(value), s.expiry(ttl))
}

// incr adds delta to a decimal value and returns the sum, or false if the store is full or the value is not an
// integer. The TTL counts from the key's first use.
func (s *store) incr(key []byte, delta int64, ttl time.Duration) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.find(key)
	if !ok {
		return delta, s.put(key, strconv.FormatInt(delta, 10), s.expiry(ttl))
	}
	n, err := strconv.ParseInt(e.value, 10, 64)
	if err != nil {
		return 0, false
	}
	n += delta
	return n, s.put(key, strconv.FormatInt(n, 10), e.expires)
}

// resize changes the limit. Existing entries stay, even beyond the new limit.
func (s *store) resize(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
}

func (s *store) bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

func (s *store) expiry(ttl time.Duration) int64 {
	if ttl <= 0 {
		return 0
	}
	return ticks(s.now().Add(ttl))
}

// find returns the entry of a key. It removes an expired one.
func (s *store) find(key []byte) (entry, bool) {
	e, ok := s.entries[string(key)]
	if ok && e.expires != 0 && ticks(s.now()) >= e.expires {
		s.remove(string(key))
		return entry{}, false
	}
	return e, ok
}

func (s *store) remove(key string) {
	if e, ok := s.entries[key]; ok {
		s.size -= len(key) + len(e.value) + entryOverhead
		delete(s.entries, key)
	}
}

// put stores an entry and reports whether there was room.
func (s *store) put(key []byte, value string, expires int64) bool {
	growth := s.growth(key, value)
	if s.size+growth > s.limit {
		s.removeExpired()
		growth = s.growth(key, value) // the key itself may have expired
		if s.size+growth > s.limit {
			return false
		}
	}
	s.size += growth
	s.entries[string(key)] = entry{value, expires}
	if expires != 0 {
		s.firstExpiry = min(s.firstExpiry, expires)
	}
	return true
}

// growth returns by how many bytes storing the value would enlarge the store.
func (s *store) growth(key []byte, value string) int {
	if old, ok := s.entries[string(key)]; ok {
		return len(value) - len(old.value)
	}
	return len(key) + len(value) + entryOverhead
}

// removeExpired removes expired entries. It runs only when the store is full.
func (s *store) removeExpired() {
	now := ticks(s.now())
	if now < s.firstExpiry {
		return
	}
	s.firstExpiry = math.MaxInt64
	for k, e := range s.entries {
		switch {
		case e.expires == 0:
		case now >= e.expires:
			s.remove(k)
		default:
			s.firstExpiry = min(s.firstExpiry, e.expires)
		}
	}
}
