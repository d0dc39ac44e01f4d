//go:build linux

package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// groupSender publishes as group_send of channels_redis 4.0 does: the same commands with the same arguments in the
// same order, which a test compares under MONITOR. Single events wait for each reply, as Python does. A burst is
// pipelined and uses the members of the last ZRANGE.
type groupSender struct {
	redis   *respConn
	group   string
	members []string
	clock   scoreClock
	form    messageForm
}

func newGroupSender(addr, group string) (*groupSender, error) {
	c, err := dialRESP(addr)
	if err != nil {
		return nil, err
	}
	return &groupSender{redis: c, group: group}, nil
}

// scriptLength is the length of channels_redis's script, which is sent with every event.
const scriptLength = 585

// sendScript makes the same Redis calls as channels_redis's script and is padded to the same length.
var sendScript = padScript(`
local full = 0
local now = ARGV[#ARGV - 1]
local expiry = ARGV[#ARGV]
for i = 1, #KEYS do
  if redis.call('ZCOUNT', KEYS[i], '-inf', '+inf') < tonumber(ARGV[i + #KEYS]) then
    redis.call('ZADD', KEYS[i], now, ARGV[i])
    redis.call('EXPIRE', KEYS[i], expiry)
  else
    full = full + 1
  end
end
return full
`)

func padScript(s string) string { return s + strings.Repeat(" ", max(0, scriptLength-len(s))) }

func (g *groupSender) dropOldMembers() {
	g.redis.queue("ZREMRANGEBYSCORE", g.groupKey(), "0", strconv.FormatInt(time.Now().Unix()-layerGroupExpiry, 10))
}

func (g *groupSender) readMembers() { g.redis.queue("ZRANGE", g.groupKey(), "0", "-1") }

func (g *groupSender) dropOldMessages(keys []string) (replies int) {
	g.redis.queue("MULTI")
	for _, k := range keys {
		g.redis.queue("ZREMRANGEBYSCORE", k, "0", strconv.FormatInt(time.Now().Unix()-layerExpiry, 10))
	}
	g.redis.queue("EXEC")
	return len(keys) + 2
}

func (g *groupSender) send(keys []string, byKey map[string][]string, event []byte) {
	args := make([]string, 0, 5+3*len(keys))
	args = append(args, "EVAL", sendScript, strconv.Itoa(len(keys)))
	args = append(args, keys...)
	for _, k := range keys {
		args = append(args, string(groupMessage(g.form, event, byKey[k])))
	}
	for range keys {
		args = append(args, strconv.Itoa(layerCapacity))
	}
	g.redis.queue(append(args, g.clock.next(), strconv.Itoa(layerExpiry))...)
}

func (g *groupSender) groupKey() string { return layerPrefix + ":group:" + g.group }

// one is a group_send: four round trips.
func (g *groupSender) one(s *source) error {
	event := s.event()
	g.dropOldMembers()
	if err := g.exchange(1); err != nil {
		return err
	}
	g.readMembers()
	if err := g.redis.flush(); err != nil {
		return fmt.Errorf("group_send: %w", err)
	}
	if err := g.takeMembers(); err != nil {
		return err
	}
	keys, byKey := keysOf(g.members)
	if err := g.exchange(g.dropOldMessages(keys)); err != nil {
		return err
	}
	g.send(keys, byKey, event)
	if err := g.redis.flush(); err != nil {
		return fmt.Errorf("group_send: %w", err)
	}
	return g.taken()
}

// burst sends n events, several dozen per pipeline. Groups with many members use fewer, since each event carries all
// member names.
func (g *groupSender) burst(s *source, n int) error {
	if n == 0 {
		return nil
	}
	if err := g.one(s); err != nil { // reads the members
		return err
	}
	for left := n - 1; left > 0; {
		keys, byKey := keysOf(g.members)
		batch := min(left, max(1, 256<<10/(2048+160*len(g.members))))
		drops := 0
		for range batch {
			g.dropOldMembers()
			g.readMembers()
			drops = g.dropOldMessages(keys)
			g.send(keys, byKey, s.event())
		}
		if err := g.redis.flush(); err != nil {
			return fmt.Errorf("group_send: %w", err)
		}
		for range batch {
			if err := g.replies(1); err != nil {
				return err
			}
			if err := g.takeMembers(); err != nil {
				return err
			}
			if err := g.replies(drops); err != nil {
				return err
			}
			if err := g.taken(); err != nil {
				return err
			}
		}
		left -= batch
	}
	return nil
}

func (g *groupSender) exchange(replies int) error {
	if err := g.redis.flush(); err != nil {
		return fmt.Errorf("group_send: %w", err)
	}
	return g.replies(replies)
}

func (g *groupSender) replies(n int) error {
	for range n {
		if _, err := g.redis.reply(); err != nil {
			return fmt.Errorf("group_send: %w", err)
		}
	}
	return nil
}

// errNoMembers reports an empty group, whose events no client would receive.
var errNoMembers = errors.New("it is empty: no client would get the event")

func (g *groupSender) takeMembers() error {
	r, err := g.redis.reply()
	if err != nil {
		return fmt.Errorf("read the group: %w", err)
	}
	if len(r.array) == 0 {
		return fmt.Errorf("group %s: %w", g.group, errNoMembers)
	}
	g.members = g.members[:0]
	for _, m := range r.array {
		g.members = append(g.members, m.text)
	}
	return nil
}

// taken reads the script's reply: the number of keys that were full and lost the event.
func (g *groupSender) taken() error {
	r, err := g.redis.reply()
	if err != nil {
		return fmt.Errorf("group_send: %w", err)
	}
	if r.text != "0" {
		return fmt.Errorf("%s channel keys hold %d messages already and lost an event", r.text, layerCapacity)
	}
	return nil
}

func (g *groupSender) close() { g.redis.close() }

// keysOf groups full channel names by channel key, in the order of first appearance.
func keysOf(members []string) (keys []string, byKey map[string][]string) {
	byKey = make(map[string][]string)
	for _, m := range members {
		k := channelKey(m)
		if _, seen := byKey[k]; !seen {
			keys = append(keys, k)
		}
		byKey[k] = append(byKey[k], m)
	}
	return keys, byKey
}

// channelKey is the prefix and the channel name up to and including "!".
func channelKey(member string) string {
	return layerPrefix + member[:strings.IndexByte(member, '!')+1]
}

// groupMessage is a message for the given members: 12 random bytes and a msgpack map.
func groupMessage(form messageForm, event []byte, members []string) []byte {
	b := make([]byte, 12, 128+len(event)+80*len(members))
	_, _ = rand.Read(b) // never fails
	n, packed := form.members(event)
	b = append(b, 0x80|(n+2)) // a map
	b = appendString(b, "type")
	b = appendString(b, form.messageType())
	b = append(b, packed...)
	b = appendString(b, "__asgi_channel__")
	if len(members) < 16 {
		b = append(b, 0x90|byte(len(members)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0xdc), uint16(len(members)))
	}
	for _, m := range members {
		b = appendString(b, m)
	}
	return b
}

// appendString appends a msgpack string: fixstr, str 8, str 16 or str 32.
func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

// appendUint appends a msgpack uint 64.
func appendUint(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(append(b, 0xcf), n) }

// scoreClock formats the time in Unix seconds as Python's repr does. Successive values differ by at least a
// microsecond, because equal scores would sort by the messages' random bytes.
type scoreClock struct{ last int64 }

func (c *scoreClock) next() string {
	c.last = max(c.last+1, time.Now().UnixMicro())
	return strconv.FormatFloat(float64(c.last)/1e6, 'f', -1, 64)
}
