//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"
)

// browser is a client that changes its subscriptions, with a goroutine that reads.
type browser struct {
	conn    net.Conn
	answers chan []byte // groups_current and errors
	ended   chan error
}

func newBrowser(t target) (*browser, error) {
	c, err := net.DialTimeout("tcp4", t.Addr, dialTimeout)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	_ = c.SetDeadline(time.Now().Add(dialTimeout))
	rest, err := open(c, t, 0)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	b := &browser{conn: c, answers: make(chan []byte, 1), ended: make(chan error, 1)}
	go func() { b.ended <- b.read(bytes.Clone(rest)) }()
	return b, nil
}

// read takes all that comes: answers are handed on, pings answered, events dropped.
func (b *browser) read(waiting []byte) error {
	buf := make([]byte, 16<<10)
	for {
		f, n, err := parseFrame(waiting)
		if err != nil {
			return err
		}
		if n == 0 {
			m, err := b.conn.Read(buf)
			if err != nil {
				return err
			}
			waiting = append(waiting, buf[:m]...)
			continue
		}
		switch {
		case f.op == opClose:
			return fmt.Errorf("closed by the server: %q", f.payload)
		case f.op == opPing:
			_, _ = b.conn.Write(appendClientFrame(nil, opPong, f.payload))
		case bytes.HasPrefix(f.payload, []byte(`{"groups_current"`)), bytes.HasPrefix(f.payload, []byte(`{"error"`)):
			b.answers <- bytes.Clone(f.payload)
		}
		if waiting = waiting[n:]; len(waiting) == 0 {
			waiting = nil
		}
	}
}

// subscribe replaces the browser's subscriptions and waits for the answer.
func (b *browser) subscribe(groups ...string) error {
	if _, err := b.conn.Write(appendClientFrame(nil, opText, subscription(groups))); err != nil {
		return fmt.Errorf("write subscribe: %w", err)
	}
	select {
	case a := <-b.answers:
		if !bytes.Contains(a, []byte(groups[len(groups)-1])) {
			return fmt.Errorf("subscribe answered by %.200s", a)
		}
		return nil
	case err := <-b.ended:
		b.ended <- err
		return fmt.Errorf("subscribe: the connection ended: %w", err)
	case <-time.After(answerWait):
		return errors.New("subscribe: no answer")
	}
}

func (b *browser) close() {
	_ = b.conn.Close()
	<-b.ended
}
