package deflate

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/internal/glob"
)

const (
	// maxDistance is the greatest distance of a reference (RFC 1951, section 3.2.5).
	maxDistance = 32 << 10
	// maxMemory bounds the bytes of the remembered messages of all groups. Beyond it, those that have not been needed
	// for the longest time go, and the next message of their groups is compressed alone.
	maxMemory = 32 << 20
	// keyMemory is the estimated size of a remembered message without its text.
	keyMemory = 256
	// idleTime is the time after which the message of a quiet group is given back; at the latest after twice as long.
	idleTime = 30 * time.Second
)

// Key identifies a sequence of messages that refer to each other. Clients that get a message of the sequence could have
// got all others.
type Key struct {
	// Group is the group of the events.
	Group string
	// Classes is the set of audience classes that get them, and Generation that of their rules. Messages for different
	// classes never refer to each other: the length would tell one class about the text of another.
	Classes, Generation uint64
	// Format is the form of a route's clients; nil for the hub's protocol.
	Format relay.Format
	// Positioned is set for the hub's protocol with positions.
	Positioned bool
}

// message is a compressed message to which another one may refer.
type message struct {
	id   uint64
	text []byte // its end, as far as a reference reaches
}

// size returns the bytes of memory.
func (m *message) size() int { return len(m.text) + keyMemory }

// lastID is the last identifier of a message in this process.
var lastID atomic.Uint64

// Compressor makes a [Buffer] of each buffer of frames. Methods may be called concurrently.
type Compressor struct {
	settings Settings
	excluded []glob.Pattern

	mu sync.Mutex // guards the fields below
	// recent are the last messages since the last turn, older those of groups that have had none since. A turn drops
	// older.
	recent, older map[Key]message
	bytes         int // in recent
	idle          *time.Timer
	closed        bool
}

// New returns a Compressor with valid settings. It must be closed.
func New(s Settings) *Compressor {
	c := &Compressor{settings: s, recent: map[Key]message{}}
	for _, pattern := range s.Exclude {
		c.excluded = append(c.excluded, glob.Compile(pattern))
	}
	return c
}

// Has reports whether the Compressor has the settings.
func (c *Compressor) Has(s *Settings) bool {
	return c.settings.MinSize == s.MinSize && c.settings.Level == s.Level && slices.Equal(c.settings.Exclude, s.Exclude)
}

// MinSize returns the length of the shortest message that is compressed.
func (c *Compressor) MinSize() int { return c.settings.MinSize }

// Excludes reports whether the events of a group are not compressed.
func (c *Compressor) Excludes(group string) bool {
	for i := range c.excluded {
		if c.excluded[i].Match(group) {
			return true
		}
	}
	return false
}

// Frames describes a buffer of frames that [relay.AppendFrame] has made.
type Frames struct {
	// Bytes are the frames, which must not be changed any more.
	Bytes []byte
	// Count is the number of messages of at least MinSize bytes, at least one. Total is their length, and Longest that of
	// the longest.
	Count, Total, Longest int
	// Last is the text of the last of them. The Compressor keeps it.
	Last []byte
}

// Buffer returns the buffer of frames that follows the last one with the same key.
func (c *Compressor) Buffer(key Key, f Frames) *Buffer {
	b := &Buffer{compressor: c, frames: f}
	b.Last = lastID.Add(1)
	before := c.remember(key, message{b.Last, f.Last[max(0, len(f.Last)-maxDistance):]})
	b.Previous, b.dictionary = before.id, before.text
	b.Window[relay.Alone] = min(f.Total, maxDistance)
	b.Window[relay.Chained] = min(len(b.dictionary)+f.Total, maxDistance)
	b.Window[relay.Each] = min(f.Longest, maxDistance)
	return b
}

// remember replaces the last message of a key, and returns the one before.
func (c *Compressor) remember(key Key, m message) (before message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, found := c.recent[key]
	if found {
		c.bytes -= before.size()
	} else if before, found = c.older[key]; found {
		delete(c.older, key)
	}
	if c.closed {
		return before
	}
	c.recent[key] = m
	if c.bytes += m.size(); c.bytes > maxMemory/2 {
		c.turn()
	}
	if c.idle == nil {
		c.idle = time.AfterFunc(idleTime, c.forgetIdle)
	}
	return before
}

// turn drops the messages of groups that have had none since the last turn. c.mu is held.
func (c *Compressor) turn() {
	c.older, c.recent, c.bytes = c.recent, map[Key]message{}, 0
}

// forgetIdle runs a turn, and the next one later, unless nothing is left.
func (c *Compressor) forgetIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turn(); len(c.older) == 0 || c.closed {
		c.older, c.idle = nil, nil
		return
	}
	c.idle.Reset(idleTime)
}

// Remembered returns the number of remembered messages, and the bytes of memory that they take.
func (c *Compressor) Remembered() (messages, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes = c.bytes
	for _, m := range c.older {
		bytes += m.size()
	}
	return len(c.recent) + len(c.older), bytes
}

// Close gives the memory back. Buffers can still be used.
func (c *Compressor) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.recent, c.older, c.bytes = nil, nil, 0
	if c.idle != nil {
		c.idle.Stop()
	}
}
