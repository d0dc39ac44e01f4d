package awx

import (
	"fmt"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// burstSeconds is the number of seconds for which unused messages are saved up.
	burstSeconds = 5
	// floodBursts is the number of bursts that may be rejected within a second before the connection is closed.
	floodBursts = 2
)

// messageBudget is a token bucket for the messages of one client.
type messageBudget struct {
	tokens   float64
	updated  time.Time
	second   int64 // the Unix second that rejected counts for
	rejected int
}

// burst returns the capacity of the bucket at a rate.
func burst(rate float64) float64 { return max(rate*burstSeconds, 1) }

// take takes a token, if there is one, from a bucket that fills at a rate of tokens per second.
func (b *messageBudget) take(now time.Time, rate float64) bool {
	if b.updated.IsZero() {
		b.tokens = burst(rate)
	}
	b.tokens = min(burst(rate), b.tokens+rate*now.Sub(b.updated).Seconds())
	b.updated = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// countRejection returns the number of messages rejected in the current second.
func (b *messageBudget) countRejection(now time.Time) int {
	if now.Unix() != b.second {
		b.second, b.rejected = now.Unix(), 0
	}
	b.rejected++
	return b.rejected
}

// withinRate takes a message from the client's budget. If there is none left, it sends an error, or closes the
// connection of a client that keeps sending.
func (c *Client) withinRate(now time.Time) bool {
	rate := c.Session.Limits().SubscribeRate
	if rate <= 0 || c.budget.take(now, rate) {
		return true
	}
	c.Stats.RateLimited.Add(1)
	rejected, limit := c.budget.countRejection(now), int(floodBursts*burst(rate))
	if rejected <= limit {
		c.Session.Send(errorText(fmt.Sprintf("too many messages: at most %g a second", rate)))
		return false
	}
	if rejected == limit+1 { // once, although more messages may arrive before the connection is closed
		c.Stats.Flooded.Add(1)
		c.Log.Info("client disconnected: too many messages", "user", c.Session.Identity().Name,
			"address", relay.AddressText(c.Session.Address()), "messages_per_second", rate)
	}
	c.Session.Socket().Close(relay.ClosePolicy, "too many messages")
	return false
}
