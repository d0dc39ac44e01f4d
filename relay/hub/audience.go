package hub

import (
	"bytes"
	"context"
	"math/bits"

	"github.com/edgerelay/edgerelay/relay"
)

// everybody is all classes.
const everybody = ^uint64(0)

// variant is a text that the subscribers of certain classes get of an event.
type variant struct {
	event   int // index
	text    []byte
	classes uint64
}

// redact returns the classes that get something of an event of which not everybody gets the same; present are those of its
// subscribers. If it is to be rendered, its variants are made.
func (b *batch) redact(event int, ev *relay.Event, present uint64) (heard uint64) {
	classes := ev.Redaction.Classes & present
	if ev.Redaction.Render == nil {
		if classes == 0 || !b.take(ev.Text) {
			return 0
		}
		return ev.Redaction.Classes
	}
	from := len(b.variants)
next:
	for ; classes != 0; classes &= classes - 1 {
		class := uint8(bits.TrailingZeros64(classes))
		text, ok := ev.Redaction.Render(class)
		if !ok {
			continue
		}
		for i := from; i < len(b.variants); i++ {
			if v := &b.variants[i]; bytes.Equal(v.text, text) {
				v.classes |= 1 << class
				continue next
			}
		}
		if b.take(text) {
			b.variants = append(b.variants, variant{event, text, 1 << class})
		}
	}
	for _, v := range b.variants[from:] {
		heard |= v.classes
	}
	return heard
}

// reach is how many subscribers of some classes there are. The shard's round is held.
func (a *audience) reach(classes uint64) int {
	if classes == everybody || a.others == 0 && classes&1 != 0 {
		return len(a.subs)
	}
	n := 0
	if classes&1 != 0 {
		n = len(a.subs) - a.others
	}
	for class, count := range a.classed {
		if classes>>(class&63)&1 != 0 {
			n += count
		}
	}
	return n
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
func (h *Hub) Classify(ctx context.Context, id relay.Identity, group string) (class uint8, err error) {
	if i := h.interceptor.Load(); i != nil {
		return (*i).Classify(ctx, id, group)
	}
	return 0, nil
}
