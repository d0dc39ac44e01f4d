package asgi

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// skippedEvery is how often messages that are skipped for one cause are worth a line in the log.
	skippedEvery = 10 * time.Minute
	// maxIgnoredTypes bounds how many types of messages are told apart.
	maxIgnoredTypes = 32
	// maxTypeLength is how much of a type's name is shown.
	maxTypeLength = 64
)

// errText means that a message can be decoded and its text is something else than a string.
var errText = errors.New("the text is not a string")

// skipped counts messages that are not delivered, and tells why: each cause at once, and then seldom.
type Skipped struct {
	Undecodable, Ignored atomic.Uint64

	mu     sync.Mutex
	told   map[string]time.Time // by cause
	types  []string             // that were ignored, in their order
	capped bool                 // there were more
}

// due reports whether a cause is worth a line now.
func (s *Skipped) due(cause string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = map[string]time.Time{}
	}
	last, ever := s.told[cause]
	if ever && time.Since(last) < skippedEvery {
		return false
	}
	s.told[cause] = time.Now()
	return true
}

// forgive makes each cause worth a line again, since settings have changed.
func (s *Skipped) Forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = nil
}

// notUnderstood counts a message that cannot be decoded.
func (s *Skipped) NotUnderstood(log *slog.Logger, err error) {
	n := s.Undecodable.Add(1)
	reason, remedy := "encoding", "use the serializer and symmetric_encryption_keys of CHANNEL_LAYERS"
	switch {
	case errors.Is(err, errText):
		reason, remedy = "text", "mend the emitter: text must be a string, such as json.dumps(…)"
	case errors.Is(err, errNotEncrypted), errors.Is(err, errWrongKey),
		errors.Is(err, errTooOld), errors.Is(err, errFromFuture):
		reason, remedy = "encryption", "use the symmetric_encryption_keys of CHANNEL_LAYERS, and synchronize the clocks"
	}
	if s.due(reason) {
		log.Warn("undecodable message skipped", "error", err, "reason", reason, "count", n, "remedy", remedy)
	}
}

// ignore counts a message of a type that is none of the relay's business, or an event without a text.
func (s *Skipped) Ignore(log *slog.Logger, kind string) {
	n := s.Ignored.Add(1)
	if kind == internalMessage {
		return
	}
	kind = strings.ToValidUTF8(kind[:min(len(kind), maxTypeLength)], "?")
	s.mu.Lock()
	known := slices.Contains(s.types, kind)
	if !known && len(s.types) < maxIgnoredTypes {
		s.types = append(s.types, kind)
		known = true
	}
	s.capped = s.capped || !known
	s.mu.Unlock()
	if !known {
		kind = "(others)"
	}
	if s.due("type " + kind) {
		log.Warn("message type ignored", "type", kind, "count", n,
			"remedy", "send events for clients with the type internal.message, unless a consumer of yours reads these")
	}
}

// ignoredTypes are the types of messages that were ignored.
func (s *Skipped) IgnoredTypes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.types)
}
