//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A session may spread its events over many groups: the n-th event goes to the group n mod Spread. With fewer groups than clients, the
// i-th client is in group i mod Spread; with more, in all groups that are i mod the number of clients. Either way a client gets every
// step-th event, so what it missed and what came twice can be told as before.

// spreadGroup names the n-th of many groups.
func spreadGroup(n int) string { return "job_events-" + strconv.Itoa(n+1) }

// step is the distance between the sequence numbers that one client gets.
func (t target) step() int64 {
	if t.Spread <= 1 {
		return 1
	}
	return int64(min(t.Spread, t.Of))
}

// groupsOf lists the groups of the place-th client.
func (t target) groupsOf(place int) []string {
	if t.Spread <= 1 {
		return []string{t.Group}
	}
	step := int(t.step())
	var groups []string
	for n := place % step; n < t.Spread; n += step {
		groups = append(groups, spreadGroup(n))
	}
	return groups
}

// subscription is the client's message that subscribes to groups.
func subscription(groups []string) []byte {
	object := map[string][]string{}
	for _, g := range groups {
		kind, item, _ := strings.Cut(g, "-")
		object[kind] = append(object[kind], item)
	}
	text, _ := json.Marshal(map[string]any{"groups": object, "xrftoken": "x"})
	return text
}

// answerWait is how long the answers to a change of all subscriptions may take.
const answerWait = time.Minute

// change has every client subscribe to what t says, all at once, and waits until all have their answers.
func (r *receiver) change(t target) error {
	r.mu.Lock()
	r.tally.Answers, r.awaited, r.answers = 0, int64(len(r.clients)), make(chan struct{})
	answered := r.answers
	fds := make([]int, len(r.clients))
	for i := range r.clients {
		fds[i] = r.clients[i].fd
	}
	r.mu.Unlock()
	for i, fd := range fds {
		if _, err := syscall.Write(fd, appendClientFrame(nil, opText, subscription(t.groupsOf(t.First+i)))); err != nil {
			return fmt.Errorf("write subscribe: %w", err)
		}
	}
	select {
	case <-answered:
		return nil
	case <-time.After(answerWait):
		r.mu.Lock()
		defer r.mu.Unlock()
		return errors.New(strconv.FormatInt(r.awaited-r.tally.Answers, 10) + " clients have no answer to their subscription")
	}
}

// answer counts the server's answers. r.mu is held.
func (r *receiver) answer(payload []byte) {
	if !bytes.Contains(payload, []byte(`"groups_current"`)) {
		return
	}
	if r.tally.Answers++; r.tally.Answers == r.awaited {
		close(r.answers)
	}
}

// spreadSender is a groupSender for many groups.
type spreadSender struct {
	*groupSender
	members [][]string // by group
}

// newSpreadSender learns the members of n groups, which must have some.
func newSpreadSender(addr string, n int) (*spreadSender, error) {
	g, err := newGroupSender(addr, "")
	if err != nil {
		return nil, err
	}
	s := &spreadSender{groupSender: g}
	const batch = 1000
	for from := 0; from < n; from += batch {
		to := min(n, from+batch)
		for i := from; i < to; i++ {
			g.group = spreadGroup(i)
			g.readMembers()
		}
		if err := g.redis.flush(); err != nil {
			g.close()
			return nil, fmt.Errorf("read the groups: %w", err)
		}
		for i := from; i < to; i++ {
			g.group = spreadGroup(i)
			if err := g.takeMembers(); err != nil {
				g.close()
				return nil, err
			}
			s.members = append(s.members, append([]string(nil), g.members...))
		}
	}
	return s, nil
}

// at turns to the group of the next event of s.
func (m *spreadSender) at(s *source) {
	n := int((s.next - firstSeq) % int64(len(m.members)))
	m.groupSender.group, m.groupSender.members = spreadGroup(n), m.members[n]
}

func (m *spreadSender) one(s *source) error {
	m.at(s)
	return m.groupSender.one(s)
}

// burst pipelines, with the members that are known.
func (m *spreadSender) burst(s *source, n int) error {
	for left := n; left > 0; {
		batch, drops := min(left, 100), 0
		for range batch {
			m.at(s)
			keys, byKey := keysOf(m.groupSender.members)
			m.dropOldMembers()
			m.readMembers()
			drops = m.dropOldMessages(keys)
			m.send(keys, byKey, s.event())
		}
		if err := m.redis.flush(); err != nil {
			return fmt.Errorf("group_send: %w", err)
		}
		m.groupSender.members = nil // takeMembers shall not write over those of the last group
		for range batch {
			if err := errors.Join(m.replies(1), m.takeMembers(), m.replies(drops), m.taken()); err != nil {
				return err
			}
		}
		left -= batch
	}
	return nil
}
