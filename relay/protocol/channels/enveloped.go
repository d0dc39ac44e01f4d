package channels

import (
	"encoding/base64"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
)

// Enveloped is the [relay.Format] of a route's clients that get the group and the position of each event: those of
// event streams and long polls. An event is an object of the subprotocol edgerelay.events.v1, in which "text" is the
// route's frame, or "binary" is its base64. All else is as on the route.
type Enveloped struct {
	*Route
	relay.HistoryFormat // of the subprotocol
}

// Enveloped returns the route's format with positions, which is the same for all calls. texts encodes the other frames
// of the subprotocol.
func (r *Route) Enveloped(texts relay.HistoryFormat) *Enveloped {
	if e := r.enveloped.Load(); e != nil {
		return e
	}
	r.enveloped.CompareAndSwap(nil, &Enveloped{r, texts})
	return r.enveloped.Load()
}

// Formats returns the formats that the route's clients can have.
func (r *Route) Formats() []relay.Format {
	formats := []relay.Format{r}
	if e := r.enveloped.Load(); e != nil {
		formats = append(formats, e)
	}
	return formats
}

// AppendEvent implements [relay.Format].
func (e *Enveloped) AppendEvent(dst []byte, ev *relay.Event, text []byte) ([]byte, relay.Frame) {
	payload, frame := e.Route.AppendEvent(nil, ev, text)
	switch frame {
	case relay.TextFrame:
		dst = appendEventHead(dst, ev)
		dst = pyjson.AppendString(append(dst, `,"text":`...), string(payload))
	case relay.BinaryFrame:
		dst = append(appendEventHead(dst, ev), `,"binary":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, payload), '"')
	default: // a backend's clients have no such format
		return dst, relay.NoFrame
	}
	return append(dst, '}'), relay.TextFrame
}

// appendEventHead appends the members of an event before its text.
func appendEventHead(dst []byte, ev *relay.Event) []byte {
	dst = pyjson.AppendString(append(dst, `{"type":"event","group":`...), ev.Group)
	if !ev.Position.IsZero() {
		dst = append(ev.Position.Append(append(dst, `,"position":"`...)), '"')
	}
	return dst
}

// EnvelopFirst returns the frame of the subprotocol for a first frame of the route.
func EnvelopFirst(text []byte) []byte {
	return append(pyjson.AppendString([]byte(`{"type":"first","text":`), string(text)), '}')
}

// EncodeResumed implements [relay.HistoryFormat].
func (e *Enveloped) EncodeResumed(r relay.Resumed) []byte { return e.HistoryFormat.EncodeResumed(r) }

// EncodeGap implements [relay.HistoryFormat].
func (e *Enveloped) EncodeGap(g relay.Gap) []byte { return e.HistoryFormat.EncodeGap(g) }

// EncodeWithheld implements [relay.HistoryFormat].
func (e *Enveloped) EncodeWithheld(group string, position relay.Position) []byte {
	return e.HistoryFormat.EncodeWithheld(group, position)
}

var (
	_ relay.Format             = (*Enveloped)(nil)
	_ relay.HistoryFormat      = (*Enveloped)(nil)
	_ relay.RightsFormat       = (*Enveloped)(nil)
	_ relay.SubscriptionFormat = (*Enveloped)(nil)
)
