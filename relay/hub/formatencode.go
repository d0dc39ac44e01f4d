package hub

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

// This file encodes events for clients with formats. Each format of a batch takes a pass over the batch, so that its
// clients get the events of all their groups in order.

// formatReach is the audiences of a group's clients with a format, by shard, with nil for a shard without such clients.
type formatReach struct {
	format     relay.Format
	plain      []*audience
	positioned []*positionAudience // nil if no shard has any
	deflates   bool                // a client has agreed on compression
}

// present returns the set of the classes of the subscribers.
func (r *formatReach) present() uint64 {
	classes := presentIn(r.plain)
	for _, a := range r.positioned {
		if a != nil {
			classes |= a.present.Load() | a.resuming.Load()
		}
	}
	return classes
}

// formatOf returns the audiences of a format, nil if the group has none; nil for the hub's protocol.
func (r *reach) formatOf(format relay.Format) *formatReach {
	if format == nil {
		return nil
	}
	for i := range r.formats {
		if r.formats[i].format == format {
			return &r.formats[i]
		}
	}
	return nil
}

// formatsOf returns the audiences of a group's clients with formats.
func (e *encoder) formatsOf(h *Hub, group string) (reaches []formatReach) {
	for i, s := range h.shards {
		s.mu.RLock()
		for _, a := range s.formatted[group] {
			at := slices.IndexFunc(reaches, func(r formatReach) bool { return r.format == a.format })
			if at < 0 {
				at = len(reaches)
				reaches = append(reaches, formatReach{format: a.format, plain: make([]*audience, len(h.shards))})
				if !slices.Contains(e.formats, a.format) {
					e.formats = append(e.formats, a.format)
				}
			}
			r := &reaches[at]
			r.plain[i] = a.plain
			r.deflates = r.deflates || a.deflates()
			if a.positioned != nil {
				if r.positioned == nil {
					r.positioned = make([]*positionAudience, len(h.shards))
				}
				r.positioned[i] = a.positioned
			}
		}
		s.mu.RUnlock()
	}
	return reaches
}

// encodeFormats encodes the batch again for each format.
func (e *encoder) encodeFormats(h *Hub, events []relay.Event) {
	for _, format := range e.formats {
		e.encodeFormat(format, events)
	}
}

func (e *encoder) encodeFormat(format relay.Format, events []relay.Event) {
	e.run, e.remaining = run{format: format}, 0
	for i := range events { // a frame is rarely longer than its event
		if e.selected[i].formats {
			e.remaining += relay.FrameSize(len(events[i].Text))
		}
	}
	variants := e.variants
	for i := range events {
		ev := &events[i]
		if !e.selected[i].formats {
			continue
		}
		r := e.reaches[ev.Group]
		to := r.formatOf(format)
		if to == nil {
			continue
		}
		if ev.Redaction == nil || ev.Redaction.Render == nil {
			e.addFormatted(to, ev, e.selected[i].classes, allClasses, ev.Text)
			continue
		}
		for ; len(variants) > 0 && variants[0].event <= i; variants = variants[1:] {
			if v := &variants[0]; v.event == i {
				e.addFormatted(to, ev, v.classes, v.decided, v.text)
			}
		}
	}
	e.endRun()
}

// addFormatted adds the frame of an event to the run.
func (e *encoder) addFormatted(to *formatReach, ev *relay.Event, classes, decided uint64, text []byte) {
	payload, kind := to.format.AppendEvent(e.payload[:0], ev, text)
	e.payload = payload
	switch kind {
	case relay.NoFrame:
		return
	case relay.ClientFrame:
		e.addPayload(to, ev, classes, decided)
		return
	}
	size := relay.FrameSize(len(payload))
	e.remaining = max(e.remaining, size)
	e.add(ev, classes, decided, payload)
	if kind == relay.BinaryFrame {
		e.run.buf[len(e.run.buf)-size] = binaryOpcode
	}
	if to.positioned != nil {
		e.run.positions = append(e.run.positions, ev.Position)
	}
}

// addPayload makes a job of its own of e.payload, for each shard with subscribers. Clients that get positions get none.
func (e *encoder) addPayload(to *formatReach, ev *relay.Event, classes, decided uint64) {
	e.endRun()
	j := job{
		frames: bytes.Clone(e.payload), count: 1, classes: classes, decided: decided, sent: stamp(ev.Published()),
		journey: journeyOf(ev), payload: true,
	}
	if ev.Redaction != nil {
		j.generation = ev.Redaction.Generation
	}
	if ev.Sender != "" {
		j.except = e.hub.sessionOf(ev.Sender)
	}
	for i, a := range to.plain {
		if a != nil {
			j.audience = a
			e.addJob(i, j)
		}
	}
}

// sessionOf returns the id of the session of a Sender, 0 if it is another node's.
func (h *Hub) sessionOf(sender string) uint32 {
	id, ok := strings.CutPrefix(sender, h.sender)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(id, 36, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}
