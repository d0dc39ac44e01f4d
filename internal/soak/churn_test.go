package soak

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit/wstest"
)

// A million connections leave nothing behind. Each is upgraded and subscribed to one of fifty groups; a third ends with
// a close frame, a third by closing the socket and a third by a reset.
func TestChurn(t *testing.T) {
	const groups, atOnce, rests = 50, 64, 20
	total := scaled(t, 1_000_000, 0.02)
	e := startEndurance(t, "connections made")
	for rest := 1; rest <= rests; rest++ {
		var next atomic.Int64
		var clients sync.WaitGroup
		for range atOnce {
			clients.Go(func() {
				for n := next.Add(1); n <= int64(total/rests); n = next.Add(1) {
					if err := connectAndEnd(e.relay.URL, int(n), int(n)%groups); err != nil {
						t.Errorf("connection %d: %v", n, err)
						return
					}
				}
			})
		}
		clients.Wait()
		if t.Failed() {
			return
		}
		e.rest(rest*total/rests, 0)
	}
}

// connectAndEnd is one short connection; n selects how it ends.
func connectAndEnd(url string, n, group int) error {
	raw, err := wstest.DialRaw(url+"/websocket/", "csrftoken=t")
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := raw.Subscribe("t", fmt.Sprint("job_events-", group)); err != nil {
		return err
	}
	_ = raw.Conn.SetDeadline(time.Now().Add(30 * time.Second))
	switch n % 3 {
	case 0:
		if _, err := io.WriteString(raw.Conn, wstest.MaskedFrame(0x88, "\x03\xe8")); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, raw.Conn) // until the relay has answered and closed
		return err
	case 1:
		return raw.Conn.(*net.TCPConn).SetLinger(0)
	}
	return nil
}
