package e2e

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
)

// siege is a relay under attack.
type siege struct {
	t     *testing.T
	relay *peers.Relay
	redis *peers.Redis
	addr  string
}

// attacker is one connection of an attacker, byte by byte.
type attacker struct {
	net.Conn
	r *bufio.Reader
}

func (s *siege) connect() (*attacker, error) {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return &attacker{conn, bufio.NewReaderSize(conn, 512)}, nil
}

// shake opens a websocket and reads the greeting.
func (s *siege) shake(behind string) (*attacker, error) {
	a, err := s.connect()
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(a, hello+behind); err != nil {
		a.Close()
		return nil, err
	}
	resp, err := http.ReadResponse(a.r, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	if err == nil {
		_, _, err = a.next()
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// next reads one frame.
func (a *attacker) next() (first byte, payload []byte, err error) {
	var head [10]byte
	if _, err = io.ReadFull(a.r, head[:2]); err != nil {
		return 0, nil, err
	}
	size := int(head[1])
	switch size {
	case 126:
		_, err = io.ReadFull(a.r, head[2:4])
		size = int(binary.BigEndian.Uint16(head[2:]))
	case 127:
		_, err = io.ReadFull(a.r, head[2:10])
		size = int(binary.BigEndian.Uint64(head[2:]))
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(a.r, payload)
	return head[0], payload, err
}

// closeCode reads until the close frame.
func (a *attacker) closeCode() (int, error) {
	for {
		first, payload, err := a.next()
		if err != nil {
			return 0, err
		}
		if first == 0x88 && len(payload) >= 2 {
			return int(binary.BigEndian.Uint16(payload)), nil
		}
	}
}

// masked is a frame whose mask is zero.
func masked(first byte, payload string) string {
	b := []byte{first}
	if n := len(payload); n < 126 {
		b = append(b, 0x80|byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	return string(append(b, 0, 0, 0, 0)) + payload
}

// usage is what the relay's process holds.
type usage struct {
	goroutines, files int
	heap, resident    int64 // bytes; the heap after a collection
}

func (s *siege) usage() usage {
	s.t.Helper()
	var u usage
	fmt.Sscanf(fetch(s.t, s.relay.Admin+"/debug/pprof/goroutine?debug=1"), "goroutine profile: total %d", &u.goroutines)
	heap, _, err := s.relay.Memory()
	if err != nil {
		s.t.Fatal(err)
	}
	u.heap = int64(heap)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.relay.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	u.files = len(files)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.relay.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(status))[1], 10, 64)
	u.resident = pages * int64(os.Getpagesize())
	return u
}

// many runs f n times, a few at a time.
func (s *siege) many(n int, f func(i int) error) {
	s.t.Helper()
	slots := make(chan struct{}, 64)
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := f(i); err != nil {
				mu.Lock()
				failed = append(failed, fmt.Errorf("%d: %w", i, err))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if len(failed) > 0 {
		s.t.Errorf("%d of %d failed, such as %v", len(failed), n, failed[0])
	}
}

// well checks that a bystander still gets his events at once.
func (s *siege) well() {
	s.t.Helper()
	a, err := s.shake(masked(0x81, `{"groups": {"bystander": [1]}, "xrftoken": "t"}`))
	if err != nil {
		s.t.Fatalf("a bystander: %v", err)
	}
	defer a.Close()
	if _, _, err := a.next(); err != nil {
		s.t.Fatalf("a bystander: %v", err)
	}
	began := time.Now()
	resp, err := http.Post(s.relay.Admin+"/edgerelay/publish", "application/json",
		strings.NewReader(`{"group": "bystander-1", "data": "hello"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	for {
		first, payload, err := a.next()
		if err != nil {
			s.t.Fatalf("a bystander: %v", err)
		}
		if first == 0x81 && string(payload) == `"hello"` {
			break
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		s.t.Errorf("a bystander waited %v for an event", took)
	}
}
