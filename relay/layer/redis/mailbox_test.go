package redis

import (
	"slices"
	"testing"
)

func TestPhases(t *testing.T) {
	events := [...]happening{
		notified, connected, connectedInFlight, began, foundNothing, foundDelivered, foundSome, foundBatch,
		writesRejected, writesAccepted, healed,
	}
	for from, want := range map[phase][len(events)]phase{
		//        notified, connected, …InFlight, began, nothing, delivered, some, batch, rejected, accepted, healed
		idle:     {ready, ready, unsure, idle, idle, idle, idle, idle, idle, idle, idle},
		ready:    {ready, ready, unsure, taking, ready, ready, ready, ready, ready, ready, ready},
		partial:  {partial, unsure, unsure, dropping, partial, partial, partial, partial, partial, partial, partial},
		unsure:   {unsure, unsure, unsure, looking, unsure, unsure, unsure, unsure, unsure, unsure, unsure},
		stuck:    {stuck, stuck, stuck, stuck, stuck, stuck, stuck, stuck, stuck, unsure, stuck},
		taking:   {taking, unsure, unsure, taking, idle, partial, idle, partial, stuck, taking, ready},
		dropping: {dropping, unsure, unsure, dropping, ready, partial, idle, partial, stuck, dropping, ready},
		looking:  {looking, unsure, unsure, looking, ready, partial, ready, partial, stuck, looking, ready},
	} {
		for i, h := range events {
			if got := from.after(h); got != want[i] {
				t.Errorf("phase %d after %d is %d, want %d", from, h, got, want[i])
			}
		}
	}
}

// batchOf returns pairs of message and score, as Redis replies.
func batchOf(messages ...string) (batch [][]byte) {
	for _, m := range messages {
		batch = append(batch, []byte(m), []byte("1"))
	}
	return batch
}

// exchanged has one exchange answered, and returns its commands' names and what it found.
func exchanged(m *mailbox, renamed bool, messages ...string) (commands string, f found) {
	change, read := m.begin("key", "inflight")
	commands = read[0]
	if change != nil {
		commands = change[0] + " " + read[0]
	}
	return commands, m.end(renamed, batchOf(messages...))
}

func TestMailboxBatches(t *testing.T) {
	m := mailbox{batch: 2}
	m.happen(notified)
	commands, f := exchanged(&m, true, "a", "b")
	if want := (found{deliver: true, first: true}); commands != "RENAME ZRANGE" || f != want || m.phase != partial {
		t.Errorf("%s found %+v, phase %d; want a full first batch", commands, f, m.phase)
	}
	commands, f = exchanged(&m, false, "c")
	if want := (found{deliver: true, last: true}); commands != "ZREMRANGEBYRANK ZRANGE" || f != want || m.taken != 3 {
		t.Errorf("%s found %+v, %d taken; want the last of 3", commands, f, m.taken)
	}
	if m.readable() {
		t.Error("the mailbox is readable although no message waits")
	}
}

func TestMailboxIsIdleWhenEmpty(t *testing.T) {
	m := mailbox{batch: 2}
	m.happen(connected)
	if _, f := exchanged(&m, false); !f.settled || f.deliver || m.phase != idle {
		t.Errorf("found %+v, phase %d; want an idle mailbox", f, m.phase)
	}
}

// A notification during an exchange may be of a message that came after the RENAME.
func TestNotificationDuringAnExchange(t *testing.T) {
	m := mailbox{batch: 2}
	m.happen(notified)
	m.begin("key", "inflight")
	m.happen(notified)
	if m.end(true, batchOf("a")); m.phase != ready {
		t.Errorf("phase %d, want %d", m.phase, ready)
	}
	// Before the last of several batches it counts, too: only a RENAME takes the channel key.
	m = mailbox{batch: 1}
	m.happen(notified)
	exchanged(&m, true, "a")
	m.happen(notified)
	if exchanged(&m, false); m.phase != ready {
		t.Errorf("phase %d after several batches, want %d", m.phase, ready)
	}
}

// Every new connection looks at delivered messages in flight before it changes anything: the host may be another one,
// or have restarted with older data.
func TestReconnectLooksFirst(t *testing.T) {
	m := mailbox{batch: 2}
	m.happen(notified)
	exchanged(&m, true, "a")
	if m.happen(connected); m.phase != unsure {
		t.Fatalf("phase %d, want %d", m.phase, unsure)
	}
	commands, f := exchanged(&m, false, "a")
	if commands != "ZRANGE" || f.deliver || m.phase != partial {
		t.Errorf("%s found %+v, phase %d; want the delivered batch", commands, f, m.phase)
	}
	commands, f = exchanged(&m, false)
	if commands != "ZREMRANGEBYRANK ZRANGE" || !f.gone || m.phase != ready {
		t.Errorf("%s found %+v, phase %d; want nothing behind it", commands, f, m.phase)
	}
}

func TestReconnectDeliversTheUnknown(t *testing.T) {
	m := mailbox{batch: 2}
	m.happen(notified)
	m.begin("key", "inflight")
	m.happen(connected) // The connection broke during the exchange.
	commands, f := exchanged(&m, false, "a")
	if want := (found{deliver: true, first: true, last: true}); commands != "ZRANGE" || f != want || m.phase != ready {
		t.Errorf("%s found %+v, phase %d; want a batch and the channel key next", commands, f, m.phase)
	}
}

func TestStuckMailbox(t *testing.T) {
	m := mailbox{batch: 2}
	m.happen(notified)
	m.begin("key", "inflight")
	if m.happen(writesRejected); m.readable() {
		t.Error("a stuck mailbox is readable")
	}
	m.happen(notified)
	m.happen(connected)
	if m.happen(writesAccepted); m.phase != unsure {
		t.Errorf("phase %d, want %d", m.phase, unsure)
	}
}

func TestBatchSize(t *testing.T) {
	m := mailbox{batch: batchMax}
	var sizes []int
	for _, bytes := range []int{batchBytesMax + 1, batchBytesMax + 1, 1, 1, 1} {
		m.resize(bytes)
		sizes = append(sizes, m.batch)
	}
	if want := []int{256, 128, 256, 512, 512}; !slices.Equal(sizes, want) {
		t.Errorf("sizes %d, want %d", sizes, want)
	}
}

// While a former master is read, messages can still come again: what was delivered there is on the new master, too.
func TestReplaysAreSuspectedWhileLingering(t *testing.T) {
	r := &replays{}
	message := make([]byte, 64)
	if r.seen(message) {
		t.Fatal("a new message was seen")
	}
	r.begin()
	r.lingering.Add(1)
	r.over()
	if !r.seen(message) {
		t.Error("a message is delivered twice while a former master is read")
	}
	r.lingering.Add(-1)
	if r.over(); r.seen(message) {
		t.Error("messages are suspected for ever")
	}
}

// A full mailbox was reported with its last message. After a reconnect, the delivered messages are found again.
func TestFullMailboxCountsOnce(t *testing.T) {
	m := mailbox{batch: 2}
	m.happen(notified)
	exchanged(&m, true, "a")
	m.happen(connected)
	exchanged(&m, false, "a")
	if _, f := exchanged(&m, false); !f.last || m.taken != 0 {
		t.Errorf("found %+v, %d taken; want the end of none", f, m.taken)
	}
}
