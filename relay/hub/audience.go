package hub

import (
	"bytes"
	"math/bits"

	"github.com/edgerelay/edgerelay/relay"
)

// Sets of audience classes have bit c set for class c.
const (
	everybody  = ^uint64(0)
	plainClass = uint64(1) // class 0, that of a subscription which no plugin has classified
)

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

// reach returns the number of subscribers of some classes. The shard's round is held.
func (a *audience) reach(classes uint64) int {
	if classes == everybody || a.others == 0 && classes&1 != 0 {
		return len(a.subs)
	}
	n := 0
	if classes&1 != 0 {
		n = len(a.subs) - a.others
	}
	for class, count := range a.classed {
		if classes&class != 0 {
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

// enter counts one more subscriber of a class. The shard's round is held.
func (a *audience) enter(class uint64) {
	if class != plainClass {
		if a.classed == nil {
			a.classed = map[uint64]int{}
		}
		a.classed[class]++
		a.others++
	}
	a.updatePresent()
}

// leave counts one subscriber of a class less. The shard's round is held.
func (a *audience) leave(class uint64) {
	if class != plainClass {
		decrement(a.classed, class)
		a.others--
	}
	a.updatePresent()
}

func (a *audience) updatePresent() {
	var present uint64
	if len(a.subs) > a.others {
		present = plainClass
	}
	for class := range a.classed {
		present |= class
	}
	a.present.Store(present)
}

// reclassify puts a subscription into another class. Its session's mu is held.
func (s *shard) reclassify(sub *subscription, class uint8) {
	if sub.class == 1<<class {
		return
	}
	s.round.Lock()
	defer s.round.Unlock()
	sub.audience.leave(sub.class)
	sub.class = 1 << class
	sub.audience.enter(sub.class)
}
