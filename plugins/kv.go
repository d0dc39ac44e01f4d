package plugins

import (
	"math"
	"strconv"
	"sync"
	"time"
)

// store is a plugin's key-value store: in memory, shared by its instances, bounded in bytes of keys and values. Safe for concurrent use.
type store struct {
	now func() time.Time

	mu      sync.Mutex
	limit   int
	entries map[string]entry
	size    int
	soonest int64 // no entry expires before; keeps a full store from being searched in vain
}

type entry struct {
	value   string
	expires int64 // ticks; 0: never
}

// entryCost stands for what an entry takes beside its bytes, so that empty values are not free.
const entryCost = 64

func newStore(limit int, now func() time.Time) *store {
	return &store{limit: limit, now: now, entries: map[string]entry{}, soonest: math.MaxInt64}
}

// get appends the value to buf.
func (s *store) get(key, buf []byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.live(key)
	if !ok {
		return buf, false
	}
	return append(buf, e.value...), true
}

// set stores a value; an empty one deletes. It reports whether there was room.
func (s *store) set(key, value []byte, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(value) == 0 {
		s.remove(string(key))
		return true
	}
	return s.put(key, string(value), s.expiry(ttl))
}

// incr adds delta to a decimal value; the TTL counts from the key's first use.
func (s *store) incr(key []byte, delta int64, ttl time.Duration) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.live(key)
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

// resize changes the limit; what is there stays.
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

func (s *store) live(key []byte) (entry, bool) {
	e, ok := s.entries[string(key)]
	if ok && e.expires != 0 && ticks(s.now()) >= e.expires {
		s.remove(string(key))
		return entry{}, false
	}
	return e, ok
}

func (s *store) remove(key string) {
	if e, ok := s.entries[key]; ok {
		s.size -= len(key) + len(e.value) + entryCost
		delete(s.entries, key)
	}
}

func (s *store) put(key []byte, value string, expires int64) bool {
	grow := len(key) + len(value) + entryCost
	if old, ok := s.entries[string(key)]; ok {
		grow -= len(key) + len(old.value) + entryCost
	}
	if s.size+grow > s.limit {
		s.expire()
		// The key itself may have been among the expired.
		grow = len(key) + len(value) + entryCost
		if old, ok := s.entries[string(key)]; ok {
			grow -= len(key) + len(old.value) + entryCost
		}
		if s.size+grow > s.limit {
			return false
		}
	}
	s.size += grow
	s.entries[string(key)] = entry{value, expires}
	if expires != 0 {
		s.soonest = min(s.soonest, expires)
	}
	return true
}

// expire removes what has expired. It runs only when room is short.
func (s *store) expire() {
	now := ticks(s.now())
	if now < s.soonest {
		return
	}
	s.soonest = math.MaxInt64
	for k, e := range s.entries {
		switch {
		case e.expires == 0:
		case now >= e.expires:
			s.remove(k)
		default:
			s.soonest = min(s.soonest, e.expires)
		}
	}
}
