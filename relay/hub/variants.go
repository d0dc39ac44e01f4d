package hub

import "github.com/edgerelay/edgerelay/relay"

// This file encodes events for clients that have opted in to positions. All other clients pay nothing for it: without
// such a client in a batch, there is no second pass over its events.
// See docs/decisions/history.md#why-do-clients-with-positions-have-audiences-of-their-own

// wrap is an encoder's memory for the texts of clients with positions.
type wrap struct {
	texts []byte
	parts []wrapped
}

// wrapped is a text in wrap.texts.
type wrapped struct {
	event    int // index
	from, to int
	classes  uint64
	decided  uint64 // as in variant
}

// maxWrapKept bounds the memory that an encoder keeps for the next batch.
const maxWrapKept = 1 << 20

// positionedOf returns the audiences of a group's clients with positions, nil if no shard has any, and whether a client
// has agreed on compression.
func (e *encoder) positionedOf(h *Hub, group string) (list []*positionAudience, deflates bool) {
	from, found := len(e.positioned), false
	for _, s := range h.shards {
		a, d := s.positionAudienceAndForms(group)
		found, deflates = found || a != nil, deflates || d
		e.positioned = append(e.positioned, a)
	}
	if !found {
		e.positioned = e.positioned[:from]
		return nil, false
	}
	return e.positioned[from:len(e.positioned):len(e.positioned)], deflates
}

// encodePositioned encodes the batch again, for the clients that get positions.
func (e *encoder) encodePositioned(h *Hub, events []relay.Event) {
	e.wrapTexts(h.framerOf(nil), events)
	if len(e.wrap.parts) == 0 {
		return
	}
	e.run = run{positions: make([]relay.Position, 0, len(e.wrap.parts))}
	for _, part := range e.wrap.parts {
		ev := &events[part.event]
		e.add(ev, part.classes, part.decided, e.wrap.texts[part.from:part.to])
		e.run.positions = append(e.run.positions, ev.Position)
	}
	e.endRun()
}

// wrapTexts puts the texts of events, and of their variants, into the form of clients with positions.
func (e *encoder) wrapTexts(p framer, events []relay.Event) {
	variants := e.variants
	for i := range events {
		switch ev := &events[i]; {
		case !e.selected[i].positioned:
		case ev.Redaction == nil || ev.Redaction.Render == nil:
			e.wrapText(p, ev, variant{i, ev.Text, e.selected[i].classes, allClasses})
		default:
			for ; len(variants) > 0 && variants[0].event <= i; variants = variants[1:] {
				if variants[0].event == i {
					e.wrapText(p, ev, variants[0])
				}
			}
		}
	}
}

func (e *encoder) wrapText(p framer, ev *relay.Event, v variant) {
	from := len(e.wrap.texts)
	if p == nil {
		e.wrap.texts = append(e.wrap.texts, v.text...)
	} else {
		e.wrap.texts, _ = p.AppendEvent(e.wrap.texts, ev, v.text)
	}
	to := len(e.wrap.texts)
	e.wrap.parts = append(e.wrap.parts, wrapped{v.event, from, to, v.classes, v.decided})
	e.remaining += relay.FrameSize(to - from)
}

// endPositioned makes the current run, of frames with positions, a job for each shard with subscribers.
func (e *encoder) endPositioned(frames []byte, to []*positionAudience) {
	r := &e.run
	positions := r.positions[:r.count:r.count]
	advanced := false
	for i, a := range to {
		if a == nil {
			continue
		}
		if !advanced { // before the jobs are written: a client that begins afterwards has missed none of them
			a.course.advance(positions)
			advanced = true
		}
		e.addJob(i, job{
			audience: &a.audience, frames: frames, count: r.count, classes: r.classes, generation: r.generation,
			decided: r.decided, sent: r.sent, journey: r.journey, except: r.except,
			positioned: &positionedJob{a, positions}, compressed: r.compressed,
		})
	}
	r.positions = r.positions[r.count:]
}

// resetPositioned is reset for clients with positions.
func (e *encoder) resetPositioned() {
	clear(e.positioned)
	e.positioned = e.positioned[:0]
	if cap(e.wrap.texts) > maxWrapKept {
		e.wrap = wrap{}
	}
	e.wrap.texts, e.wrap.parts = e.wrap.texts[:0], e.wrap.parts[:0]
}
