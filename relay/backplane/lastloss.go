package backplane

import (
	"slices"
	"strings"
	"time"
)

// PeerLoss is the last loss of events between this node and a peer.
type PeerLoss struct {
	// At is the time at which the loss was noticed.
	At time.Time `json:"at"`
	// Reason is a reason of [Stats.Dropped]: events for the peer were dropped. It is "reported" if the peer has reported
	// that it dropped events for this node.
	Reason string `json:"reason"`
	// Events is the number of events, 0 if unknown.
	Events int `json:"events"`
}

// maxPeerLosses bounds the peers whose last loss is kept.
const maxPeerLosses = 1000

// DropReasons lists all reasons of [Stats.Dropped].
func DropReasons() []string {
	reasons := []string{}
	for _, f := range []fault{
		faultTooLarge, faultBroken, faultGroup, faultUTF8, faultType, faultLimit, faultSource, faultSameLayer, faultQueue,
		faultExpired, faultLink, faultDouble,
	} {
		reasons = append(reasons, string(f))
	}
	slices.Sort(reasons)
	return reasons
}

// lose counts events for a peer that were dropped. peer is the text of link.String.
func (c *counters) lose(peer string, why fault, events int) {
	c.drop(why, events)
	c.noteLoss(peer, string(why), events)
}

// noteLoss records the last loss of a peer.
func (c *counters) noteLoss(peer, reason string, events int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.losses == nil {
		c.losses = map[string]PeerLoss{}
	}
	key := lossKey(peer)
	if _, ok := c.losses[key]; !ok && len(c.losses) >= maxPeerLosses {
		oldest := ""
		for other, loss := range c.losses {
			if oldest == "" || loss.At.Before(c.losses[oldest].At) {
				oldest = other
			}
		}
		delete(c.losses, oldest)
	}
	c.losses[key] = PeerLoss{At: time.Now(), Reason: reason, Events: events}
}

// lastLoss returns the last loss of a peer; nil without one.
func (c *counters) lastLoss(peer string) *PeerLoss {
	c.mu.Lock()
	defer c.mu.Unlock()
	if loss, ok := c.losses[lossKey(peer)]; ok {
		return &loss
	}
	return nil
}

// lossKey is the part of a peer's text that outlives its links: the name, or the address without it.
func lossKey(peer string) string {
	name, _, _ := strings.Cut(peer, " (")
	return name
}
