package node

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/edgerelay/edgerelay/caddymodule/settings"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// drainDefault is the pace of a drain that is asked for without saying one.
const DefaultDrainDuration = 30 * time.Second

// Drain says how fast clients are sent to other nodes when this one stops, and when the admin API asks for it. Where it is
// not configured, clients are told at once when the relay stops.
type Drain struct {
	// Duration is the time over which goodbyes are spread evenly. Default: 30s, or as long as Rate needs.
	Duration *caddy.Duration `json:"duration,omitempty" caddyfile:"<duration>"`
	// Rate is how many clients may be sent away in a second; where it needs more time than Duration, it prevails. Default: any number.
	Rate float64 `json:"rate,omitempty" caddyfile:"<clients a second>"`
}

// pace returns the pace that d means.
func (d *Drain) Pace() (hub.Pace, error) {
	switch {
	case d == nil:
		return hub.Pace{Duration: DefaultDrainDuration}, nil
	case !(d.Rate >= 0 && d.Rate <= math.MaxInt32):
		return hub.Pace{}, errors.New("drain: rate is a number of clients a second, or 0 for any number")
	case d.Duration != nil && (*d.Duration < 0 || time.Duration(*d.Duration) > 24*time.Hour):
		return hub.Pace{}, errors.New("drain: duration is between 0s and 24h")
	}
	p := hub.Pace{Rate: d.Rate}
	if d.Duration != nil {
		p.Duration = time.Duration(*d.Duration)
	} else if d.Rate == 0 {
		p.Duration = DefaultDrainDuration
	}
	return p, nil
}

// ReadBlock reads `drain [<duration>] { … }`.
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
	return settings.Read(from, "drain", d)
}

// drainForStop sends clients away at the configured pace because the node is about to end. Without one it does nothing.
// See docs/decisions/caddy.md#why-does-a-stop-close-clients-at-once-unless-drain-is-set
func (n *Node) drainBeforeClose() {
	pace := n.DrainPace.Load()
	if pace == nil {
		return
	}
	p := *pace
	if s := n.Hub.DrainStatus(); s.State == "draining" { // never slower than it has begun
		p = hub.Pace{Duration: min(time.Until(s.Ends), p.Over(s.Clients-s.Evicted))}
	}
	n.Hub.Drain(p)
	s := n.Hub.DrainStatus()
	if s.Open > 0 {
		n.Log.Info("clients are sent to other nodes before the relay stops", "count", s.Open, "over", time.Until(s.Ends).Round(time.Second))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Until(s.Ends)+closeTimeout)
	defer cancel()
	_ = n.Hub.Drained(ctx) // who is still there then is cut off
}
