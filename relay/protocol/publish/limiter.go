package publish

import (
	"math"
	"sync"
	"time"
)

// limiter is a token bucket that goes into debt: a batch that is larger than the burst passes if the bucket is not in
// debt, and later requests wait for as long as the batch takes at the rate. A batch therefore never has to be split.
type limiter struct {
	rate, burst float64
	now         func() time.Time

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newLimiter(rate float64, burst int) *limiter {
	l := &limiter{rate: rate, burst: float64(burst), now: time.Now}
	if burst == 0 {
		l.burst = math.Max(1, math.Ceil(rate))
	}
	l.tokens, l.at = l.burst, l.now()
	return l
}

// take takes n tokens, or returns the time after which a request can succeed.
func (l *limiter) take(n int) (wait time.Duration) {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.tokens = math.Min(l.burst, l.tokens+math.Max(0, now.Sub(l.at).Seconds())*l.rate)
	l.at = now
	if l.tokens < 1 {
		return time.Duration((1 - l.tokens) / l.rate * float64(time.Second))
	}
	l.tokens -= float64(n)
	return 0
}

// refund returns the tokens of publications that failed.
func (l *limiter) refund(n int) {
	if l == nil || n == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tokens = math.Min(l.burst, l.tokens+float64(n))
}
