package presence

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// The types of the messages that announce presence.
const (
	JoinType  = "presence.join"
	LeaveType = "presence.leave"
	CountType = "presence.count"
)

const (
	// laneCount is the number of announcements that are published at once. Those of a group are published in order.
	laneCount = 8
	// laneMax is the number of announcements that wait in a lane. Others stay in the store until a node claims them.
	laneMax = 4096
	// publishTimeout bounds the publication of an announcement.
	publishTimeout = 5 * time.Second
)

// lane is announcements that wait to be published, in order.
type lane struct {
	wake    chan struct{}
	mu      sync.Mutex
	waiting []queuedAnnouncement
}

type queuedAnnouncement struct {
	Announcement
	shard *shard
}

var laneSeed = maphash.MakeSeed()

// announce has an announcement published.
func (t *Tracker) announce(s *shard, a Announcement) {
	l := &t.lanes[maphash.String(laneSeed, a.Group)%laneCount]
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= laneMax {
		t.stats.unannounced.Add(1)
		return
	}
	l.waiting = append(l.waiting, queuedAnnouncement{a, s})
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// announceLane publishes the announcements of a lane until ctx ends.
func (t *Tracker) announceLane(ctx context.Context, l *lane) {
	for {
		l.mu.Lock()
		batch := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		for _, a := range batch {
			if ctx.Err() != nil {
				return
			}
			t.publishOne(ctx, a)
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-ctx.Done():
			return
		}
	}
}

// publishOne publishes an announcement. After an error, it stays in the store and is claimed again.
func (t *Tracker) publishOne(ctx context.Context, a queuedAnnouncement) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := t.publish(ctx, a.Message()); err != nil {
		if t.stats.unannounced.Add(1) == 1 {
			t.log.Warn("presence not announced, retrying", "error", err, "group", a.Group)
		}
		return
	}
	t.stats.announced[kindIndex(a.Kind)].Add(1)
	s := a.shard
	s.mu.Lock()
	s.answers = append(s.answers, Change{Op: OpAcknowledge, Key: a.Key, Kind: a.Kind, Members: a.Members})
	s.mu.Unlock()
	s.kick()
}

// Message returns the message of an announcement.
func (a *Announcement) Message() relay.Message {
	m := relay.Message{Group: a.Group, Type: CountType}
	switch a.Kind {
	case Join:
		m.Type = JoinType
	case Leave:
		m.Type = LeaveType
	case Count:
		m.Text = fmt.Appendf(nil, `{"count": %d}`, a.Members)
		return m
	}
	m.Text = fmt.Appendf(nil, `{"user": %s, "info": %s, "count": %d}`, a.User, infoOr(a.Info), a.Members)
	return m
}

// AppendJSON appends the list as JSON: {"users": [{"user": 7, "info": {}}], "count": 1}.
func (l *Members) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"users": [`...)
	for i, u := range l.Users {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = fmt.Appendf(dst, `{"user": %s, "info": %s}`, u.User, infoOr(u.Info))
	}
	return fmt.Appendf(dst, `], "count": %d}`, l.Count)
}

// infoOr returns the JSON of an information.
func infoOr(info string) string {
	if info == "" {
		return "{}"
	}
	return info
}

// kindIndex returns the index of a kind in counters.
func kindIndex(k Kind) int {
	switch k {
	case Join:
		return 0
	case Leave:
		return 1
	}
	return 2
}
