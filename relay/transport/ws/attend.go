package ws

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
	if !c.io.Start(c.early != nil) {
		go c.readOn()
	}
}

// ReadReady implements [netpoll.Owner].
func (c *Conn) ReadReady(scratch []byte) {
	r := reader{c: c, in: scratch}
	if err := r.readAll(); err != nil {
		c.end(err)
	}
}

func (r *reader) readAll() error {
	for drained := false; ; {
		if r.between() {
			n, last, err := r.c.io.ReadOrRest(r.in, drained)
			if err != nil || n == 0 {
				return err
			}
			r.c.lives()
			r.start, r.end, drained = 0, n, last
		}
		if err := r.read(); err != nil {
			return err
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
	done, h := make(chan struct{}), r.c.handler
	go func() {
		defer close(done)
		h.Message(m.text, m.bytes)
	}()
	<-done
}

// end ends the connection after a read error.
func (c *Conn) end(err error) {
	c.finish(err)
	c.io.Release()
	c.handler.Ended()
}
