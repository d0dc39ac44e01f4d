package hub

import (
	"math"
	"unicode/utf8"

	"github.com/edgerelay/edgerelay/relay"
)

// rendering is the replay of a wave for a class, for all its clients.
type rendering struct {
	frames []byte
	items  []item
	// indexes has the index in items of the first text of each event.
	indexes map[relay.Position]int
	newest  int64 // greatest Micros
	// outdated is set if the class has been decided by other rules than the events' texts.
	outdated bool
	paced    int // clients that read slowly; the mutex of resumes guards it
}

// item is a frame of a rendering.
type item struct {
	position relay.Position
	end      int // of the frame in frames
	index    int // of the event in the page
	isEvent  bool
}

// render makes the frames of a wave for a class.
func (w *wave) render(class relay.Classification, format relay.Format) *rendering {
	r := &rendering{indexes: make(map[relay.Position]int, len(w.replay))}
	p := w.hub.framerOf(format)
	size := 0
	for i := range w.replay {
		size += len(w.replay[i].Text) + 192
	}
	r.frames = make([]byte, 0, size)
	var failed []int
	for _, position := range w.failed {
		if i, ok := w.pageIndexes()[position.Entry()]; ok {
			failed = append(failed, i)
		}
	}
	var text []byte
	index := 0
	for i := range w.replay {
		ev := &w.replay[i]
		if ev.Group != w.course.group || ev.Control != nil || ev.Position.IsZero() || ev.Type != "" && format == nil {
			continue
		}
		if at, ok := w.pageIndexes()[ev.Position.Entry()]; ok {
			index = max(index, at)
		}
		for len(failed) > 0 && failed[0] < index {
			r.withhold(p, w, failed[0])
			failed = failed[1:]
		}
		shown, ok := r.textFor(ev, class)
		switch {
		case !ok && (ev.Redaction.Failed == nil || !ev.Redaction.Failed(class.Class)):
		case !ok || !utf8.Valid(shown):
			r.withhold(p, w, index)
		default:
			var kind relay.Frame
			if text, kind = p.AppendEvent(text[:0], ev, shown); kind == relay.TextFrame || kind == relay.BinaryFrame {
				r.add(item{position: ev.Position, index: index, isEvent: true}, kind, text)
			}
		}
	}
	for _, i := range failed {
		r.withhold(p, w, i)
	}
	return r
}

// textFor returns the text of an event for a class, and false if the class gets none.
func (r *rendering) textFor(ev *relay.Event, class relay.Classification) (text []byte, ok bool) {
	switch d := ev.Redaction; {
	case d == nil:
		return ev.Text, true
	case d.Generation != class.Generation:
		r.outdated = true
		return nil, false
	case d.Classes>>class.Class&1 == 0:
		return nil, false
	case d.Render == nil:
		return ev.Text, true
	default:
		return d.Render(class.Class)
	}
}

// withhold adds the frame for an event of the page that clients do not get.
func (r *rendering) withhold(p framer, w *wave, index int) {
	position := w.page.Events[index].Position
	if text := p.EncodeWithheld(w.course.group, position); text != nil {
		r.add(item{position: position, index: index}, relay.TextFrame, text)
	}
}

func (r *rendering) add(i item, kind relay.Frame, text []byte) {
	r.frames = appendFrame(r.frames, kind, text)
	i.end, r.newest = len(r.frames), max(r.newest, i.position.Micros)
	if _, ok := r.indexes[i.position.Entry()]; !ok {
		r.indexes[i.position.Entry()] = len(r.items)
	}
	r.items = append(r.items, i)
}

// begin returns the beginning of an item's frame in frames.
func (r *rendering) begin(i int) int {
	if i == 0 {
		return 0
	}
	return r.items[i-1].end
}

// latestStart returns the first of the items with the last n events, and with all events of the page from an index on.
func (r *rendering) latestStart(n, behind int) int {
	start := 0
	for i := len(r.items) - 1; i >= 0; i-- {
		if !r.items[i].isEvent {
			continue
		}
		if n <= 0 && r.items[i].index < behind {
			return start
		}
		start = i
		n--
	}
	return 0
}

// known is the events that a client has, or gets by its replay.
type known struct {
	indexes map[relay.Position]int // of the rendering
	start   int                    // of the client's replay, in the rendering
	listed  map[relay.Position]uint16
	page    map[relay.Position]int // if not nil, all events of the page are known
	newest  int64                  // greatest Micros of the rendering
}

// has reports whether an event is known.
func (k *known) has(p relay.Position) bool {
	if p.IsZero() {
		return false
	}
	if k.lists(p) {
		return true
	}
	entry := p.Entry()
	if _, ok := k.page[entry]; ok {
		return true
	}
	i, ok := k.indexes[entry]
	return ok && i >= k.start
}

// lists reports whether the client has said that it has an event.
func (k *known) lists(p relay.Position) bool {
	part, ok := k.listed[p.Entry()]
	return ok && p.Part <= part
}

// answer is the beginning of the subscription of all clients of a wave with equal requests and classes.
type answer struct {
	reason    error // the client cannot resume
	outdated  bool  // the class is being decided
	resumed   relay.Resumed
	rendering *rendering // nil: no replay
	known     known
	uses      int

	parts [][]byte // frames, sent in this order
	bytes int      // in parts
	own   int      // bytes of memory that the rendering does not share
	paced int      // clients that read slowly; the mutex of resumes guards it
	tail  tail     // of the last client
}

// build selects the items of the replay: parts are the frames.
func (a *answer) build() {
	r := a.rendering
	var head []byte
	from := a.known.start
	for i := a.known.start; i < len(r.items); i++ {
		if !a.known.lists(r.items[i].position) {
			if r.items[i].isEvent {
				a.resumed.Events++
			}
			continue
		}
		head = append(head, r.frames[r.begin(from):r.begin(i)]...)
		from = i + 1
	}
	if len(head) > 0 {
		a.parts, a.own = append(a.parts, head), cap(head)
	}
	for from < len(r.items) {
		begin, to := r.begin(from), from+1
		for to < len(r.items) && r.items[to].end-begin <= joinSize {
			to++
		}
		a.parts = append(a.parts, r.frames[begin:r.items[to-1].end:r.items[to-1].end])
		from = to
	}
}

// maxCopied bounds the bytes that are copied for the answer to a single client.
const maxCopied = 16 << 10

// encode puts the frame that begins the subscription in front, and joins short parts.
func (a *answer) encode(f framer) {
	first := appendText(nil, f.EncodeResumed(a.resumed))
	limit := joinSize
	if a.uses == 1 {
		limit = maxCopied
	}
	for len(a.parts) > 0 && len(first)+len(a.parts[0]) <= limit {
		first = append(first, a.parts[0]...)
		a.parts = a.parts[1:]
	}
	if len(first) > 0 {
		a.parts, a.own = append([][]byte{first}, a.parts...), a.own+cap(first)
	}
	for _, part := range a.parts {
		a.bytes += len(part)
	}
}

// tail is a piece of the recorded events that a client with an answer does not have.
type tail struct {
	log      *positionAudience
	from, to uint64
	class    relay.Classification
	frames   []byte
	events   int
}

// tailOf returns the next piece of the recorded events for a client. The shard's round is held.
func (a *answer) tailOf(log *positionAudience, p *pending) *tail {
	t := &a.tail
	if t.log == log && t.from == p.from && t.class == p.class {
		return t
	}
	*t = tail{log: log, from: p.from, to: p.from, class: p.class}
	jobs := log.log.since(p.from)
	for i := range jobs {
		if len(t.frames) >= joinSize {
			break
		}
		if j := &jobs[i]; (j.toAll() || j.concerns(p.class)) && (j.except == 0 || j.except != p.sub.session.id) {
			t.add(j, &a.known)
		}
		t.to++
	}
	return t
}

// add adds the frames of a job that are not known.
func (t *tail) add(j *job, k *known) {
	eachFrame(j, func(frame []byte, p relay.Position) {
		if !k.has(p) {
			t.frames = append(t.frames, frame...)
			t.events++
		}
	})
}

// eachFrame calls fn with the frames of a job, and the positions of their events.
func eachFrame(j *job, fn func(frame []byte, p relay.Position)) {
	frames := j.frames
	for i := range j.count {
		size := frameLength(frames)
		var p relay.Position
		if i < len(j.positioned.positions) {
			p = j.positioned.positions[i]
		}
		fn(frames[:size], p)
		frames = frames[size:]
	}
}

// frameLength returns the length of the first frame, made by [relay.AppendFrame].
func frameLength(frames []byte) int {
	n := uint64(frames[1])
	switch n {
	case 126:
		return 4 + int(frames[2])<<8 + int(frames[3])
	case 127:
		n = 0
		for _, b := range frames[2:10] {
			n = n<<8 | uint64(b)
		}
		return 10 + int(min(n, math.MaxInt))
	}
	return 2 + int(n)
}
