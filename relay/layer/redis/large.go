package redis

import (
	"context"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// largeKey is the number of messages from which a key of another node's mailbox is remembered, so that many
	// resumes while a node is dead or paused do not read its whole mailbox each time.
	largeKey = 1000
	// largeKept is how long a key is remembered after its last use, and largeBytesMax the bytes of all of them.
	largeKept     = 15 * time.Second
	largeBytesMax = 128 << 20
)

// largeKeys are the large keys of other nodes' mailboxes, as they were read last.
type largeKeys struct {
	mu    sync.Mutex
	keys  map[string]*remembered
	bytes int
}

// remembered is the contents of a key. Emitters add messages, usually at the end; they remove old ones at the
// beginning, and so does the node. So the key still begins as remembered if its first message and the number of
// messages before the last score are the same.
type remembered struct {
	messages []goredis.Z
	before   int64 // the number of messages below the last score
	bytes    int
	used     time.Time
}

// get returns a key, nil if it is not remembered.
func (l *largeKeys) get(key string) *remembered {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.keys[key]
	if r != nil {
		r.used = time.Now()
	}
	return r
}

// put remembers a key if it is large.
func (l *largeKeys) put(key string, messages []goredis.Z) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(key)
	if len(messages) < largeKey {
		return
	}
	r := &remembered{messages: messages, used: time.Now()}
	last := messages[len(messages)-1].Score
	for _, z := range messages {
		if z.Score < last {
			r.before++
		}
		raw, _ := z.Member.(string)
		r.bytes += len(raw)
	}
	if l.bytes+r.bytes > largeBytesMax {
		return
	}
	if l.keys == nil {
		l.keys = map[string]*remembered{}
	}
	l.keys[key] = r
	l.bytes += r.bytes
}

// remove forgets a key. l.mu is held.
func (l *largeKeys) remove(key string) {
	if r := l.keys[key]; r != nil {
		l.bytes -= r.bytes
		delete(l.keys, key)
	}
}

// forget forgets the keys that were not used for a while.
func (l *largeKeys) forget(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, r := range l.keys {
		if now.Sub(r.used) > largeKept {
			l.remove(key)
		}
	}
}

// keyOf is a key of another node's mailbox.
type keyOf struct {
	name     string
	messages []goredis.Z // in the order of their scores

	before *remembered
	first  *goredis.ZSliceCmd
	count  *goredis.IntCmd
	rest   *goredis.ZSliceCmd // everything, or what is not remembered
}

// read adds the command that reads the key.
func (k *keyOf) read(ctx context.Context, pipe goredis.Cmdable, name string) {
	*k = keyOf{name: name, rest: pipe.ZRangeWithScores(ctx, name, 0, -1)}
}

// readNews adds the commands that read what is new since the key was remembered, if it is.
func (k *keyOf) readNews(ctx context.Context, pipe goredis.Cmdable, name string, known *largeKeys) {
	before := known.get(name)
	if before == nil {
		k.read(ctx, pipe, name)
		return
	}
	last := strconv.FormatFloat(before.messages[len(before.messages)-1].Score, 'f', -1, 64)
	*k = keyOf{
		name: name, before: before,
		first: pipe.ZRangeWithScores(ctx, name, 0, 0),
		count: pipe.ZCount(ctx, name, "-inf", "("+last),
		rest:  pipe.ZRangeByScoreWithScores(ctx, name, &goredis.ZRangeBy{Min: last, Max: "+inf"}),
	}
}

// take takes the replies, and remembers a large key if known is not nil. ok is false if the key does not begin as it
// was remembered.
func (k *keyOf) take(known *largeKeys) (ok bool, err error) {
	k.messages = k.rest.Val()
	if err := k.rest.Err(); err != nil {
		return true, err
	}
	if k.before != nil {
		first := k.first.Val()
		if len(first) != 1 || first[0] != k.before.messages[0] || k.count.Val() != k.before.before {
			return false, nil
		}
		k.messages = append(k.before.messages[:k.before.before:k.before.before], k.messages...)
	}
	if known != nil {
		known.put(k.name, k.messages)
	}
	return true, nil
}
