package relay

import (
	"bytes"
	"context"
	"math/bits"
)

// Redaction says what subscribers of which class are shown of an event. A subscription's class, 0 to 63, is
// what [Hub.SubscribeAs] was told; 0 unless an [Interceptor] said otherwise.
type Redaction struct {
	// Classes has bit c set if subscribers of class c get the event.
	Classes uint64
	// Render, if not nil, returns what subscribers of a class get in place of the event's text, and false if they get nothing. It is
	// called once for each class that has subscribers on this node.
	Render func(class uint8) (text []byte, ok bool)
}

// everybody is all classes.
const everybody = ^uint64(0)

// piece is a text for the subscribers of a group that are of certain classes.
type piece struct {
	group   string
	text    []byte
	classes uint64
}

// redact makes the pieces of an event of which not everybody gets the same; present are the classes of its subscribers.
func (b *batch) redact(h *Hub, ev *Event, present uint64) {
	classes := ev.Redaction.Classes & present
	if classes == 0 {
		return
	}
	if ev.Redaction.Render == nil {
		b.add(h, ev.Group, ev.Text, ev.Redaction.Classes)
		return
	}
	from := len(b.pieces)
next:
	for ; classes != 0; classes &= classes - 1 {
		class := uint8(bits.TrailingZeros64(classes))
		text, ok := ev.Redaction.Render(class)
		if !ok {
			continue
		}
		for i := from; i < len(b.pieces); i++ {
			if p := &b.pieces[i]; bytes.Equal(p.text, text) {
				p.classes |= 1 << class
				continue next
			}
		}
		b.add(h, ev.Group, text, 1<<class)
	}
}

// presentIn returns the classes of all subscribers in some audiences.
func presentIn(as []*audience) (classes uint64) {
	for _, a := range as {
		if a != nil {
			classes |= a.present.Load()
		}
	}
	return classes
}

// enter counts a subscriber of a class in. The shard's round is held.
func (a *audience) enter(class uint8) {
	if class != 0 {
		if a.classed == nil {
			a.classed = map[uint8]int{}
		}
		a.classed[class]++
		a.others++
	}
	a.mark()
}

// leave counts a subscriber of a class out. The shard's round is held.
func (a *audience) leave(class uint8) {
	if class != 0 {
		if a.classed[class]--; a.classed[class] == 0 {
			delete(a.classed, class)
		}
		a.others--
	}
	a.mark()
}

func (a *audience) mark() {
	var present uint64
	if len(a.subs) > a.others {
		present = 1
	}
	for class := range a.classed {
		present |= 1 << class
	}
	a.present.Store(present)
}

// reclassify gives a subscription another class.
func (s *shard) reclassify(sub *subscription, class uint8) {
	s.round.Lock()
	defer s.round.Unlock()
	sub.audience.leave(sub.class)
	sub.class = class
	sub.audience.enter(class)
}

// Classify asks the interceptor for the class of a subscription that the authorizer has allowed. An error denies it.
func (h *Hub) Classify(ctx context.Context, id Identity, group string) (class uint8, err error) {
	if i := h.interceptor.Load(); i != nil {
		return (*i).Classify(ctx, id, group)
	}
	return 0, nil
}
