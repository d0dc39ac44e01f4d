package edgerelay

import "strings"

// place is the range of a value in the edited text. origin is the value's range in the payload as it arrived; from is
// -1 if the value is not known to be there.
type place struct {
	from, to int
	origin   struct{ from, to int }
}

// splice records an edit, so that the relay's search in the original payload also serves the edited text.
type splice struct {
	path    string
	at      int  // in the payload as it arrived
	growth  int  // of the text, in bytes
	removed bool // which moves the positions of an array's elements
}

// maxSplices is how many edits are recorded. With more of them, the plugin searches the edited text.
const maxSplices = 32

// locate is [Document.Find] in the edited text. The relay searches, which is faster, and the position is moved by
// the edits before it. The plugin itself searches for a path that such an edit may have changed.
func (e *Event) locate(path string) (p place, ok bool) {
	if e.lost || e.touched(path) || !e.changed && e.isReplaced() {
		p.from, p.to, ok = find(e.EditedPayload(), path)
		p.origin.from = -1
		return p, ok
	}
	if p.origin.from, p.origin.to, ok = e.Find(path); !ok {
		return p, false
	}
	p.from, p.to = p.origin.from, p.origin.to
	for i := range e.splices {
		s := &e.splices[i]
		if s.at < p.origin.from {
			p.from += s.growth
		}
		if s.at < p.origin.to {
			p.to += s.growth
		}
	}
	// On a text that is not JSON, the result is some value or none.
	return p, 0 <= p.from && p.from < p.to && p.to <= len(e.EditedPayload())
}

// isReplaced reports whether the plugin has put another text in place of Payload, which the relay does not know.
func (e *Event) isReplaced() bool {
	return len(e.Payload) != len(e.arrived) || len(e.Payload) > 0 && &e.Payload[0] != &e.arrived[0]
}

// touched reports whether an earlier edit may have changed the value that a path finds.
func (e *Event) touched(path string) bool {
	for i := range e.splices {
		if s := &e.splices[i]; overlaps(s.path, path, s.removed) {
			return true
		}
	}
	return false
}

// overlaps reports whether an edit of the value at edited may change the value at path: with removed, the other
// elements of an array, too.
func overlaps(edited, path string, removed bool) bool {
	for {
		if edited == "" {
			return true
		}
		if path == "" {
			return false
		}
		var a, b string
		a, edited = cutName(edited)
		b, path = cutName(path)
		if a != b {
			return digits(a) && digits(b) && (removed || strings.TrimLeft(a, "0") == strings.TrimLeft(b, "0"))
		}
	}
}

func digits(name string) bool {
	for i := range len(name) {
		if name[i] < '0' || name[i] > '9' {
			return false
		}
	}
	return true
}

// record notes an edit at a place of the payload as it arrived; -1 is a place that is not there.
func (e *Event) record(s splice) {
	if s.at < 0 || len(e.splices) >= maxSplices {
		e.lost = true
		return
	}
	e.splices = append(e.splices, s)
}
