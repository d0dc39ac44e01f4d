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

// A session may spread its events over many groups: the n-th event goes to the group n mod Spread. With fewer groups
// than clients, client i is in group i mod Spread; with more groups, in all groups g for which g mod clients is i.
// Either way a client receives every step-th event, so that lost and doubled events are recognized as usual.

// spreadGroup names the n-th of many groups.
func spreadGroup(n int) string { return "job_events-" + strconv.Itoa(n+1) }

// step is the distance between the sequence numbers that one client receives.
func (t target) step() int64 {
	if t.Spread <= 1 {
		return 1
	}
	return int64(min(t.Spread, t.Of))
}

// groupsOf returns the groups of client number place.
func (t target) groupsOf(place int) []string {
	var groups []string
	for n := range t.Together {
		groups = append(groups, spreadGroup(n))
	}
	switch {
	case groups != nil:
		return groups
	case t.Spread <= 1:
		return []string{t.Group}
	}
	step := int(t.step())
	for n := place % step; n < t.Spread; n += step {
		groups = append(groups, spreadGroup(n))
	}
	return groups
}

// subscription is the client's subscribe message for groups.
func subscription(groups []string, since string) []byte {
	object := map[string][]string{}
	for _, g := range groups {
		kind, item, _ := strings.Cut(g, "-")
		object[kind] = append(object[kind], item)
	}
	message := map[string]any{"groups": object, "xrftoken": "x"}
	if since != "" {
		positions := map[string]string{}
		for _, g := range groups {
			positions[g] = since
		}
		message["since"] = positions
	}
	text, _ := json.Marshal(message)
	return text
}

// answerWait bounds the replies to a change of all subscriptions.
const answerWait = time.Minute

// change subscribes every client to the groups of t, all at once, and waits for all replies.
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
		if _, err := syscall.Write(fd, appendClientFrame(nil, opText, subscription(t.groupsOf(t.First+i), ""))); err != nil {
			return fmt.Errorf("write subscribe: %w", err)
		}
	}
	select {
	case <-answered:
		return nil
	case <-time.After(answerWait):
		r.mu.Lock()
		defer r.mu.Unlock()
		return errors.New(strconv.FormatInt(r.awaited-r.tally.Answers, 10) +
			" clients have no reply to their subscription")
	}
}

// answer counts the server's replies. r.mu is held.
func (r *receiver) answer(payload []byte) {
	if bytes.Contains(payload, []byte(`"recovered":true`)) {
		r.tally.Resumed++
	}
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

// newSpreadSender reads the members of n groups, none of which may be empty.
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

// at selects the group of the next event of s.
func (m *spreadSender) at(s *source) {
	n := int((s.next - firstSeq) % int64(len(m.members)))
	m.groupSender.group, m.groupSender.members = spreadGroup(n), m.members[n]
}

func (m *spreadSender) one(s *source) error {
	m.at(s)
	return m.groupSender.one(s)
}

// burst pipelines, with the known members.
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
		m.groupSender.members = nil // takeMembers must not overwrite the slice of the last group
		for range batch {
			if err := errors.Join(m.replies(1), m.takeMembers(), m.replies(drops), m.taken()); err != nil {
				return err
			}
		}
		left -= batch
	}
	return nil
}
