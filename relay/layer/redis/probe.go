package redis

import (
	"errors"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// writeProbe records whether a host accepts writes.
type writeProbe struct {
	asked    time.Time // zero: not yet on this connection
	rejected bool
}

// due reports whether a host that rejects writes has to be asked again.
func (w *writeProbe) due() bool { return w.rejected && time.Since(w.asked) >= redisnet.ProbeInterval }

// probe asks for a sign of life, and for messages that no notification has told of. Now and then it asks whether the
// host takes writes: a host that takes none gets no events from emitters, which reading alone would not notice.
// See docs/decisions/layers.md#why-is-a-write-the-health-check
func (r *reader) probe(conn *resp.Conn) error {
	r.broker.health.Asked(r.host)
	exists := []string{"EXISTS", r.channelKey()}
	if time.Since(r.writes.asked) < redisnet.ProbeInterval { // A polled host is probed more often.
		waiting, err := conn.Do(redisnet.ReplyTimeout, exists...)
		if err != nil {
			return err
		}
		r.answered(waiting)
		return nil
	}
	r.writes.asked = time.Now()
	// XX with an unknown member in an unknown key changes nothing, and is rejected like every write.
	write := []string{"ZADD", groupKey(r.broker.place.Prefix, ""), "XX", "0", "-"}
	if err := conn.SendAll(redisnet.ReplyTimeout, exists, write); err != nil {
		return err
	}
	waiting, err := conn.Reply()
	if err != nil {
		return err
	}
	_, err = conn.Reply()
	var refused resp.Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	readable := true
	switch {
	case code(refused) == "READONLY": // A replica. The next connection may find the master.
		return err
	case rejectsWrites(refused):
		r.writes.rejected, readable = true, false
	case code(refused) == "OOM": // RENAME needs no memory.
		r.writes.rejected = true
	default: // Accepted, or rejected for a reason that says nothing about writes, such as the user's permissions.
		r.writes.rejected, err = false, nil
	}
	r.broker.health.RejectsWrites(r.host, err)
	r.answered(waiting)
	if readable {
		r.mailbox.happen(writesAccepted)
	}
	return nil
}

// code returns the first word of a rejection.
func code(refused resp.Error) string {
	word, _, _ := strings.Cut(string(refused), " ")
	return word
}

// rejectsWrites reports whether a host rejects all writes. With OOM it rejects only writes that need memory.
func rejectsWrites(refused resp.Error) bool {
	return code(refused) == "NOREPLICAS" || code(refused) == "MISCONF"
}

// answered takes the reply to EXISTS.
func (r *reader) answered(waiting [][]byte) {
	r.broker.health.Answered(r.host)
	if r.mailbox.phase != stuck {
		r.looked()
	}
	if string(waiting[0]) != "0" {
		r.mailbox.happen(notified)
	}
}
