package wire

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// Any stands for every port in [Switch.Set].
const Any = "*"

// Counts are the frames of one direction between two ports.
type Counts struct{ Delivered, Dropped uint64 }

// Switch forwards Ethernet frames between ports by rules. Several goroutines may call its methods.
type Switch struct {
	running sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	closed bool
	ports  map[string]*port
	// learned has the port from which each address was last seen.
	learned    map[[6]byte]*port
	directions map[[2]string]*direction
	counts     map[[2]string]*Counts
	random     *rand.Rand
}

// NewSwitch returns a switch without ports. The seed decides which frames a rule with shares takes.
func NewSwitch(seed uint64) *Switch {
	return &Switch{
		ports: map[string]*port{}, learned: map[[6]byte]*port{}, directions: map[[2]string]*direction{},
		counts: map[[2]string]*Counts{}, random: rand.New(rand.NewPCG(seed, 0)),
	}
}

// Attach adds a port. Each Read of the device returns one frame, each Write takes one, and Close ends both. The switch
// closes the device.
func (s *Switch) Attach(name string, device io.ReadWriteCloser) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ports[name] != nil || name == Any {
		return fmt.Errorf("attach port %q: the name is in use, or the switch is closed", name)
	}
	p := newPort(name, device)
	s.ports[name] = p
	s.running.Go(func() { s.read(p) })
	s.running.Go(p.write)
	return nil
}

// Set replaces the rule for frames from one port to another. With [Any] as to, the rule is for all frames that leave
// from; with Any as from, for all frames that enter to. A frame passes the three rules one after another. A new rule
// holds for frames that arrive from now on.
func (s *Switch) Set(from, to string, rule Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.directions[[2]string{from, to}] = &direction{rule: rule}
}

// SetBoth is Set for both directions.
func (s *Switch) SetBoth(a, b string, rule Rule) {
	s.Set(a, b, rule)
	s.Set(b, a, rule)
}

// Reset removes all rules.
func (s *Switch) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.directions)
}

// Counts returns the frames that arrived at one port for another.
func (s *Switch) Counts(from, to string) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.counts[[2]string{from, to}]; c != nil {
		return *c
	}
	return Counts{}
}

// Close closes all devices and waits until the switch's goroutines have ended.
func (s *Switch) Close() {
	s.mu.Lock()
	s.closed = true
	for _, p := range s.ports {
		p.close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// read forwards the frames of a port until its device is closed.
func (s *Switch) read(p *port) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.device.Read(buffer)
		if err != nil {
			p.close()
			return
		}
		if n < headerLength {
			continue
		}
		s.forward(p, append([]byte(nil), buffer[:n]...), time.Now())
	}
}

// forward sends a frame to the port of its destination, or to all others if that is unknown or a group.
func (s *Switch) forward(from *port, frame []byte, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learned[[6]byte(frame[6:12])] = from
	const group = 1
	if to := s.learned[[6]byte(frame[:6])]; to != nil && frame[0]&group == 0 {
		s.send(from, to, frame, now)
		return
	}
	for _, to := range s.ports {
		if to != from {
			s.send(from, to, frame, now)
		}
	}
}

// send passes a frame through the rules. The caller holds s.mu.
func (s *Switch) send(from, to *port, frame []byte, now time.Time) {
	pair := [2]string{from.name, to.name}
	count := s.counts[pair]
	if count == nil {
		count = &Counts{}
		s.counts[pair] = count
	}
	times := []time.Time{now}
	if !resolvesAddresses(frame) {
		for _, rule := range [][2]string{{from.name, Any}, pair, {Any, to.name}} {
			d := s.directions[rule]
			if d == nil {
				continue
			}
			var next []time.Time
			for _, at := range times {
				next = append(next, d.pass(at, len(frame), s.random)...)
			}
			times = next
		}
	}
	if len(times) == 0 {
		count.Dropped++
	}
	for _, at := range times {
		if to.queue(frame, at) {
			count.Delivered++
		} else {
			count.Dropped++
		}
	}
}
