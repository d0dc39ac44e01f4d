package channels

import "time"

// burstSeconds is the number of seconds for which unused messages are saved up.
const burstSeconds = 5

// budget is a token bucket for the messages of one client, in ticks of a millisecond.
type budget struct {
	tokens  float32
	updated uint32 // milliseconds since the start of the process, 0 before the first message
}

var processStart = time.Now().Add(-time.Second)

// take takes a token, if there is one, from a bucket that fills at a rate of tokens per second.
func (b *budget) take(now time.Time, rate float64) bool {
	size := float32(max(rate*burstSeconds, 1))
	ms := uint32(now.Sub(processStart).Milliseconds())
	if b.updated == 0 {
		b.tokens = size
	} else {
		b.tokens += float32(rate) * float32(ms-b.updated) / 1000 // uint32 wraps after 49 days: too many tokens at worst
	}
	b.tokens, b.updated = min(b.tokens, size), max(ms, 1)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
