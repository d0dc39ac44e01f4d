package publish

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// maxLocalClaims bounds the claims in memory, at about 200 bytes each.
const maxLocalClaims = 500_000

// minSweepInterval is the least time between two removals of expired claims.
const minSweepInterval = time.Second

var errTooManyClaims = errors.New("too many idempotency keys in memory; shorten idempotency, or use Redis")

// LocalClaims keeps claims in this process, for channel layers that keep none. It is ready to use.
type LocalClaims struct {
	mu     sync.Mutex
	claims map[string]localClaim
	// sweepAt is the number of claims at which the expired ones are removed.
	sweepAt int
	swept   time.Time
	now     func() time.Time
}

type localClaim struct {
	value string
	ends  time.Time
}

var _ relay.ClaimKeeper = (*LocalClaims)(nil)

// SwapClaims implements [relay.ClaimKeeper].
func (l *LocalClaims) SwapClaims(_ context.Context, swaps []relay.ClaimSwap) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.now != nil {
		now = l.now()
	}
	if l.claims == nil {
		l.claims = map[string]localClaim{}
	}
	if len(l.claims)+len(swaps) > l.sweepAt && now.Sub(l.swept) > minSweepInterval {
		l.sweep(now)
	}
	values := make([]string, len(swaps))
	for i, s := range swaps {
		current := l.claims[s.Key]
		if current.ends.Before(now) {
			current.value = ""
		}
		switch values[i] = current.value; {
		case current.value != s.From:
			continue
		case s.To == "":
			delete(l.claims, s.Key)
		case s.From == "" && len(l.claims) >= maxLocalClaims:
			return nil, errTooManyClaims
		default:
			l.claims[s.Key] = localClaim{s.To, now.Add(s.Lifetime)}
		}
		values[i] = s.To
	}
	return values, nil
}

// sweep removes expired claims. The next sweep is due when the claims have doubled, so that a claim pays for a constant
// number of looks.
func (l *LocalClaims) sweep(now time.Time) {
	const least = 1024
	for key, c := range l.claims {
		if c.ends.Before(now) {
			delete(l.claims, key)
		}
	}
	l.sweepAt, l.swept = min(max(least, 2*len(l.claims)), maxLocalClaims), now
}
