package backplane

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// segmentSizes are the bounds of the packets' payloads that a dialer tries one after another, in bytes; 0 leaves them
// to the kernel. The second fits into the smallest packets of IPv6, the third into those that every network carries.
var segmentSizes = [...]int{0, 1200, 536}

// segments chooses the size of packets of a dialer's next link. Some networks swallow large packets, and the message
// that would tell the sender so: connections are made, small messages arrive, and the first large one stops everything.
// Its methods are called by the dialing goroutine alone.
//
// See docs/decisions/backplane.md#when-are-packets-kept-small
type segments struct {
	level int // the index in segmentSizes for the next link
	// known is the level of the last link that lived with small packets, 0 if there is none.
	known int
	// suspect is set if a link has stalled, and each attempt to connect has succeeded at once since: packets pass.
	suspect bool
}

// size returns the bound for the next link.
func (s *segments) size() int { return segmentSizes[s.level] }

// stalled notes that a link has stalled after it lived for some time. A link that stalls within the time proof, and
// that was made after another one had stalled, is followed by one with smaller packets; then stalled returns true.
func (s *segments) stalled(lived, proof time.Duration) (lowered bool) {
	switch {
	case !s.suspect || lived > proof:
		s.carried(lived, proof)
		s.suspect = true
	case s.level == 0 && s.known > 0:
		s.level = s.known
	default:
		s.level = (s.level + 1) % len(segmentSizes)
		if s.level == 0 { // the size is not the cause
			s.known = 0
		}
	}
	return s.level > 0
}

// silent notes that a connection was made and the handshake had no answer.
func (s *segments) silent() (lowered bool) {
	s.suspect = true
	return s.stalled(0, 0)
}

// carried notes that a link has ended after it lived for some time, for a reason other than silence.
func (s *segments) carried(lived, proof time.Duration) {
	if s.level > 0 && lived > proof {
		s.known = s.level
	}
	s.unreachable()
}

// unreachable notes that no connection could be made, or not with the first packet: the network is or was down, for
// packets of any size. Two short outages in a row leave packets as large as they are.
func (s *segments) unreachable() { s.level, s.suspect = 0, false }

// segmentProof is the time that a link with segments of a size must live to prove that they pass: all limits of silence
// have passed by then.
func (d *dialer) segmentProof() time.Duration { return 2 * d.b.settings.Load().Silence }

// noteEnd keeps why a link has ended, or has stalled if ended is nil.
func (d *dialer) noteEnd(l *link, ended error) {
	lived := time.Since(l.began)
	switch {
	case ended == nil || isSilence(ended):
		d.warnLowered(d.segments.stalled(lived, d.segmentProof()))
	default:
		d.segments.carried(lived, d.segmentProof())
	}
}

// noteFailure keeps why an attempt to make a link has failed.
func (d *dialer) noteFailure(err error) {
	var none connectError
	switch {
	case errors.As(err, &none):
		d.segments.unreachable()
	case isSilence(err):
		d.warnLowered(d.segments.silent())
	}
}

// isSilence reports whether a connection has ended, or an attempt has failed, because nothing was heard.
func isSilence(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, errTimedOut) || errors.Is(err, errStalled) || errors.Is(err, syscall.ETIMEDOUT) ||
		errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// warnLowered logs, at most once a minute, that the next link has smaller packets.
func (d *dialer) warnLowered(lowered bool) {
	if !lowered || time.Since(d.loweredLogged) < time.Minute {
		return
	}
	d.loweredLogged = time.Now()
	d.b.log.Warn("links to a peer connect and then stall, trying smaller packets", "peer", d.target.URL,
		"segment_bytes", d.segments.size(),
		"remedy", "check the MTU between the nodes and let ICMP messages about it pass; caddy edgerelay doctor measures it")
}
