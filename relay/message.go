package relay

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Message is a message of any type for a group, to be published.
type Message struct {
	// Group is the full group name.
	Group string
	// Type is the message type, such as "chat.message"; empty for internal.message, whose text is Text.
	Type string
	// Text of a message with a Type is a JSON object with the other members of the message. Its members "type",
	// "__asgi_channel__" and [SenderMember] are ignored.
	Text []byte
	// Binary are the names of members of Text that hold base64, and are published as bytes.
	Binary []string
	// Sender is a client that does not get the event, see [Session.Sender]; or [HopSender], or empty.
	Sender string
}

// hopSender begins the Sender of a message that a plugin has made of an event.
const hopSender = "hop/"

// HopSender returns the Sender of a message that a plugin has made of an event. It names no client: it carries, over
// every channel layer, how many plugins in a row have done so, which bounds loops of plugins that publish.
func HopSender(hops int) string {
	if hops <= 0 {
		return ""
	}
	return hopSender + strconv.Itoa(hops)
}

// SenderHops returns the hops of a Sender, 0 for any other Sender.
func SenderHops(sender string) int {
	text, ok := strings.CutPrefix(sender, hopSender)
	if !ok {
		return 0
	}
	hops, err := strconv.Atoi(text)
	if err != nil || hops < 0 {
		return math.MaxInt32 // unknown: no further hop
	}
	return hops
}

// SenderMember is the member of a message in the channel layer that holds the Sender.
const SenderMember = "edgerelay_sender"

// ErrInvalidMessage is the error for a message that no channel layer can publish, whatever its state.
var ErrInvalidMessage = errors.New("invalid message")

// MaxMessageType is the greatest length of a message's type in bytes. Messages of longer types do not reach clients.
const MaxMessageType = 250

// CheckType returns an error that wraps [ErrInvalidMessage] and explains the rules if messages of the type cannot be
// published.
func (m *Message) CheckType() error {
	switch kind := m.Type; {
	case kind == "internal.message":
		return invalid("internal.message is the type of messages without a type; leave the type out")
	case kind == "consumer.subscribe" || kind == "consumer.unsubscribe":
		return invalid("messages of the type %s are for AWX's nodes; use another type", kind)
	case kind == "" || len(kind) > MaxMessageType || !utf8.ValidString(kind):
		return invalid("%.64q is not a type; use 1 to %d bytes of UTF-8, such as chat.message", kind, MaxMessageType)
	case kind[0] == '_' || kind[0] == '.':
		return invalid("type %.64q: Channels accepts no type that begins with _ or a period; use another one", kind)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidMessage, fmt.Sprintf(format, args...))
}
