package redis

import (
	"errors"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay/internal/redisnet"
	"github.com/edgerelay/edgerelay/relay/internal/resp"
)

// probe looks for signs of life, for messages that nobody told of, and whether the host takes writes: one that does not gets no
// events from emitters, and would not be noticed by reading.
func (l *link) probe(conn *resp.Conn) error {
	l.probing = false
	l.broker.health.Asked(l.host)
	look := []string{"EXISTS", l.channelKey()}
	if time.Since(l.tried) < redisnet.ProbeEvery { // a polled host is asked much more often
		waiting, err := conn.Do(redisnet.ReplyWait, look...)
		if err != nil {
			return err
		}
		l.found(waiting)
		return nil
	}
	// Of a member that is not there, in a key that is not there: it changes nothing, and is refused all the same.
	l.tried = time.Now()
	if err := conn.SendAll(redisnet.ReplyWait, look, []string{"ZADD", groupKey(l.broker.place.Prefix, ""), "XX", "0", "-"}); err != nil {
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
	switch kind, _, _ := strings.Cut(string(refused), " "); {
	case kind == "READONLY": // a replica: whoever is the master now may be found by connecting again
		return err
	case kind == "OOM", takesNone(refused):
		l.refused = true
	default: // taken, or it may not be asked, which says nothing
		l.refused, l.stuck, err = false, false, nil
	}
	l.broker.health.Refuses(l.host, err)
	l.found(waiting)
	return nil
}

// takesNone tells whether a command was refused because the host takes no writes at all. With OOM it is only those that need memory.
func takesNone(refused resp.Error) bool {
	kind, _, _ := strings.Cut(string(refused), " ")
	return kind == "NOREPLICAS" || kind == "MISCONF"
}

// found takes the answer of EXISTS.
func (l *link) found(waiting [][]byte) {
	l.broker.health.Answered(l.host)
	if !l.stuck {
		l.looked()
	}
	l.woken = l.woken || string(waiting[0]) != "0"
}
