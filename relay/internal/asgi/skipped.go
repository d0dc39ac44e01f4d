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
	// skippedLogInterval is the time between log lines about messages that are skipped for the same cause.
	skippedLogInterval = 10 * time.Minute
	// maxIgnoredTypes is the maximum number of ignored types with log lines of their own.
	maxIgnoredTypes = 32
	// maxTypeLength is the maximum length of a type's name in the log.
	maxTypeLength = 64
)

// errText means that a message can be decoded, but its text is not a string.
var errText = errors.New("the text is not a string")

// Skipped counts messages that are not delivered, and logs the causes: at once, and then seldom.
type Skipped struct {
	Undecodable, Ignored atomic.Uint64

	mu     sync.Mutex
	logged map[string]time.Time // by cause
	types  []string             // ignored types, in the order of their first message
	capped bool                 // there were more types
}

// due reports whether to log a cause now.
func (s *Skipped) due(cause string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logged == nil {
		s.logged = map[string]time.Time{}
	}
	last, ever := s.logged[cause]
	if ever && time.Since(last) < skippedLogInterval {
		return false
	}
	s.logged[cause] = time.Now()
	return true
}

// ResetLog makes each cause due again, because settings have changed.
func (s *Skipped) ResetLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logged = nil
}

// Undecoded counts a message that cannot be decoded.
func (s *Skipped) Undecoded(log *slog.Logger, err error) {
	n := s.Undecodable.Add(1)
	reason, remedy := "encoding", "use the serializer and symmetric_encryption_keys of CHANNEL_LAYERS"
	switch {
	case errors.Is(err, errText):
		reason, remedy = "text", "fix the emitter: text must be a string, such as json.dumps(…)"
	case errors.Is(err, ErrObject):
		reason, remedy = "message", "fix the emitter: send values that JSON has, UTF-8, and bytes"
	case errors.Is(err, errNotEncrypted), errors.Is(err, errWrongKey),
		errors.Is(err, errTooOld), errors.Is(err, errFromFuture):
		reason, remedy = "encryption", "use the symmetric_encryption_keys of CHANNEL_LAYERS, and synchronize the clocks"
	}
	if s.due(reason) {
		log.Warn("undecodable message skipped", "error", err, "reason", reason, "count", n, "remedy", remedy)
	}
}

// Ignore counts a message of a type that the relay does not deliver, or an event without a text.
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
			"remedy", "add a route with a rule for the type, unless a consumer of yours reads these messages")
	}
}

// ForgetTypes forgets the ignored types: messages of any type are delivered from now on.
func (s *Skipped) ForgetTypes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.types, s.capped = nil, false
}

// IgnoredTypes returns the types of the messages that were ignored.
func (s *Skipped) IgnoredTypes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.types)
}
