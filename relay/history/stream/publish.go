package stream

import (
	"context"
	_ "embed" // for the scripts
	"encoding/binary"
	"errors"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

//go:embed publish.lua
var publishSource string

var publishScript = goredis.NewScript(publishSource)

// Published is a message of the publishing script: an event, and its place in the stream.
type Published struct {
	Content
	Sent     time.Time
	Position relay.Position
	// Previous is the number of the event before, 0 if there is none. It tells a receiver whether events are missing.
	Previous int64
}

// Form is the first byte of a [Published] message with a text, and ContentForm of one with a [Content].
const (
	Form        = 2
	ContentForm = 4
)

// HasForm reports whether a message may be a [Published] one.
func HasForm(raw []byte) bool { return len(raw) > 0 && (raw[0] == Form || raw[0] == ContentForm) }

// headerSize is the length of a message without the text: form, time of sending, number, epoch, number of the event
// before.
const headerSize = 1 + 4*8

// The fields of entries: a text, and a [Content].
const (
	textField    = "e"
	contentField = "c"
)

// ErrForm is the error for a text that is not a [Published] message.
var ErrForm = errors.New("not a message with a number")

// Decode reads a message. The text is a part of raw.
func Decode(raw []byte) (p Published, err error) {
	if len(raw) <= headerSize || !HasForm(raw) {
		return p, ErrForm
	}
	number := func(i int) int64 { return int64(binary.BigEndian.Uint64(raw[1+8*i:])) }
	p = Published{
		Content: Content{Text: raw[headerSize:]}, Sent: time.UnixMicro(number(0)),
		Position: position(number(1), raw[17:25]), Previous: number(3),
	}
	if p.Position.Micros <= 0 || p.Position.Mark == 0 || p.Previous < 0 || p.Previous >= p.Position.Micros {
		return Published{}, ErrForm
	}
	if raw[0] == ContentForm {
		if p.Content, err = DecodeContent(p.Text); err != nil {
			return Published{}, err
		}
	}
	return p, nil
}

// Publish stores an event in the stream of its group and publishes it, on the master of the group's slot. The result is
// the number of receivers. stored is false if the history could not take the event, and nothing was published: the
// caller publishes it without a number. After any other error, the event may have been published.
func (s *Store) Publish(ctx context.Context, node *goredis.Client, group string, limits relay.HistoryLimits,
	content Content, sent time.Time,
) (receivers int64, stored bool, err error) {
	text, field, form := content.Text, textField, Form
	if !content.IsText() {
		if text, err = content.Append(nil); err != nil {
			return 0, true, err
		}
		field, form = contentField, ContentForm
	}
	result, err := publishScript.Run(ctx, node, s.keys(group),
		s.channel(group), bigEndian(uint64(sent.UnixMicro())), text, newEpoch(),
		limits.Count, limits.Bytes, limits.Age.Microseconds(), hashLife(limits.Age).Milliseconds(),
		field, form).Int64Slice()
	switch {
	case err == nil && len(result) == 2:
		s.recorded.Add(1)
		s.setSize(group, result[1])
		return result[0], true, nil
	case err == nil:
		return 0, false, errors.New("the publishing script answered in another form")
	case !refused(err):
		return 0, true, err
	}
	s.failed.Add(1)
	s.complain(err)
	s.markHoles([]string{group})
	if strings.HasPrefix(err.Error(), "WRONGTYPE") { // The keys are the relay's own.
		_ = node.Del(ctx, s.keys(group)...).Err()
	}
	return 0, false, nil
}

// refused reports whether Redis has refused a script for a reason that concerns the history, and not the event.
func refused(err error) bool {
	var answer goredis.Error
	if !errors.As(err, &answer) {
		return false
	}
	kind, _, _ := strings.Cut(answer.Error(), " ")
	switch kind {
	case "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "NOAUTH", "WRONGPASS":
		return false
	}
	return true
}

// complaintInterval is the least time between two log lines about refused writes.
const complaintInterval = 10 * time.Second

// complain logs why the history did not take an event.
func (s *Store) complain(err error) {
	now, last := time.Now().Unix(), s.logged.Load()
	if now-last < int64(complaintInterval/time.Second) || !s.logged.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn("history not written", "error", err, "count", s.failed.Load(),
		"remedy", "give Redis memory, and the user access to edgerelay:* and to scripts")
}
