package webhttp

import "time"

// Hurry divides the times of the protocol, so that tests need not wait. It is called before the first connection.
func (b *Backend) Hurry(by time.Duration) {
	t := &b.times
	for _, d := range []*time.Duration{
		&t.firstRetry, &t.retryRange, &t.maxBlocked, &t.minKeepAlive, &t.minClientIdle, &t.maxGrace, &t.minHold,
		&t.minStreamKeepAlive,
	} {
		*d /= by
	}
}
