package ws

import (
	"errors"
	"runtime"
	"sync/atomic"
)

// Handler is told what comes from a client.
type Handler interface {
	// Message is given the client's messages, one after the other; the next is not read before it returns.
	Message(text bool, message []byte)
	// Ended is called once, behind the last message: the connection has ended.
	Ended()
}

// Attend hands to h what the client sends, until the connection ends, and returns at once. Pings are answered. A client that breaks
// the websocket protocol is closed with the code that says so.
//
// While nothing comes, no goroutine waits (Linux, TCP and Unix sockets, plain and under TLS): the poller starts one when there is
// something to read, and it ends when all is read. A message that has begun is waited for.
func (c *Conn) Attend(h Handler) {
	c.handler = h
	switch {
	case !c.watch():
		go c.readOn()
	case len(c.early) > 0 || c.holds() || !c.rest():
		readSoon(c)
	}
}

// What a connection's reader is doing, as bits. A connection is born active.
const (
	active = 1 << iota // somebody reads
	again              // more may have come since it last looked
	hungUp             // the end has come, too, or an urgent byte: what looks like all is not
	over               // nobody will read any more
)

// work goes to readers that wait for some.
var (
	work    = make(chan *Conn)
	waiting atomic.Int32
)

// readSoon has a connection read. A few readers stay for the next one: to grow a new goroutine's stack for a message costs more than all else of
// it.
func readSoon(c *Conn) {
	select {
	case work <- c:
	default:
		go readFor(c)
	}
}

func readFor(c *Conn) {
	r := &reader{in: make([]byte, 1024)}
	for c != nil {
		r.readConn(c)
		c = nil
		if waiting.Add(1) <= int32(4*runtime.GOMAXPROCS(0)) {
			c = <-work
		}
		waiting.Add(-1)
	}
}

// wake sees to it that somebody looks what there is to read.
func (c *Conn) wake(hup bool) {
	for {
		old := c.activity.Load()
		if old&over != 0 {
			return
		}
		now := old | active
		if old&active != 0 {
			now |= again
		}
		if hup {
			now |= hungUp
		}
		if now == old {
			return
		}
		if c.activity.CompareAndSwap(old, now) {
			if old&active == 0 {
				readSoon(c)
			}
			return
		}
	}
}

// readConn reads what there is of a connection.
func (r *reader) readConn(c *Conn) {
	r.c = c
	if err := r.readAll(); err != nil {
		c.end(err)
	}
	*r = reader{in: r.in}
}

// errNothing says that nothing is there to read now.
var errNothing = errors.New("nothing to read")

func (r *reader) readAll() error {
	c := r.c
	for all := false; ; {
		if r.between() {
			if all && c.activity.CompareAndSwap(active, 0) {
				return nil
			}
			c.activity.And(^uint32(again))
			var n int
			var err error
			switch n, all, err = c.readNow(r.in); {
			case err == errNothing:
				if c.rest() {
					return nil
				}
				continue
			case err != nil:
				return err
			}
			c.lives()
			r.start, r.end = 0, n
		}
		if err := r.read(); err != nil {
			return err
		}
	}
}

// rest ends an activity, unless more has come since it last looked and found nothing.
func (c *Conn) rest() bool {
	for {
		old := c.activity.Load()
		if old&again != 0 {
			return false
		}
		if c.activity.CompareAndSwap(old, 0) {
			return true
		}
	}
}

// readOn reads until the connection ends, where there is no poller.
func (c *Conn) readOn() {
	r := &reader{c: c, in: make([]byte, 64), lasting: true}
	for {
		if err := r.read(); err != nil {
			c.end(err)
			return
		}
	}
}

// deliver hands a message on. A goroutine keeps the stack that it once had, and reading JSON takes a deep one: one that lives as long as the
// client leaves that to another.
func (r *reader) deliver(m incoming) {
	if !r.lasting {
		r.c.handler.Message(m.text, m.bytes)
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.c.handler.Message(m.text, m.bytes)
	}()
	<-done
}

// end ends the connection after a read error.
func (c *Conn) end(err error) {
	c.activity.Or(over)
	c.finish(err)
	c.unwatch()
	c.handler.Ended()
}
