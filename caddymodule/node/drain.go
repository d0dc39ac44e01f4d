package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// DefaultDrainDuration is the duration of a drain if the request names no pace.
const DefaultDrainDuration = 30 * time.Second

// Drain is the pace at which clients are evicted to other nodes when this node stops, or when the admin API starts a
// drain. Without this setting, a stop evicts all clients at once.
type Drain struct {
	// Duration is the time over which evictions are spread evenly. Default: 30s, or as long as Rate needs.
	Duration *caddy.Duration `json:"duration,omitempty" caddyfile:"<duration>"`
	// Rate is the number of clients that may be evicted in a second. A rate that needs more time than Duration
	// prevails. Default: any number.
	Rate float64 `json:"rate,omitempty" caddyfile:"<clients a second>"`
}

// Pace checks the settings and returns the pace. A nil Drain is 30s.
func (d *Drain) Pace() (hub.Pace, error) {
	switch {
	case d == nil:
		return hub.Pace{Duration: DefaultDrainDuration}, nil
	case !(d.Rate >= 0 && d.Rate <= math.MaxInt32):
		return hub.Pace{}, errors.New("drain: rate is a number of clients a second, or 0 for any number")
	case d.Duration != nil && *d.Duration < 0:
		return hub.Pace{}, fmt.Errorf("drain: invalid duration %v; use 0s to 24h", time.Duration(*d.Duration))
	case d.Duration != nil && time.Duration(*d.Duration) > 24*time.Hour:
		return hub.Pace{}, fmt.Errorf("drain: duration %v is too long; use 24h at most", time.Duration(*d.Duration))
	}
	p := hub.Pace{Rate: d.Rate}
	if d.Duration != nil {
		p.Duration = time.Duration(*d.Duration)
	} else if d.Rate == 0 {
		p.Duration = DefaultDrainDuration
	}
	return p, nil
}

// ReadBlock implements [settings.BlockReader]. It reads `drain [<duration>] { … }`.
func (d *Drain) ReadBlock(from *caddyfile.Dispenser) error {
	if from.NextArg() {
		t, err := settings.ParseDuration(from.Val())
		if err != nil {
			return from.Errf("drain: %v", err)
		}
		d.Duration = &t
		if from.NextArg() {
			return from.ArgErr()
		}
	}
	given := d.Duration
	d.Duration = nil
	if err := settings.Read(from, "drain", d); err != nil || given == nil {
		return err
	}
	if d.Duration != nil {
		return from.Err("drain: the duration is given twice; remove one")
	}
	d.Duration = given
	return nil
}

// drainBeforeClose evicts clients at the configured pace before the node closes. Without a pace it does nothing.
// See docs/decisions/caddy.md#why-does-a-stop-close-clients-at-once-unless-drain-is-set
func (n *Node) drainBeforeClose() {
	pace := n.DrainPace.Load()
	if pace == nil {
		return
	}
	p := *pace
	if s := n.Hub.DrainStatus(); s.State == "draining" { // never slower than the drain under way
		p = hub.Pace{Duration: min(time.Until(s.Ends), p.Over(s.Clients-s.Evicted))}
	}
	n.Hub.Drain(p)
	s := n.Hub.DrainStatus()
	if s.Open > 0 {
		n.Log.Info("draining clients before stop",
			"count", s.Open, "duration", time.Until(s.Ends).Round(time.Second))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Until(s.Ends)+closeTimeout)
	defer cancel()
	_ = n.Hub.Drained(ctx) // closing the hub aborts the rest
}
