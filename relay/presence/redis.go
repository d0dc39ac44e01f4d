package presence

import (
	"context"
	"crypto/rand"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// The scripts; each describes its keys and arguments.
var (
	//go:embed register.lua
	registerScript string
	//go:embed tend.lua
	tendScript string
	//go:embed change.lua
	changeScript string
	//go:embed list.lua
	listScript string
	//go:embed takecalls.lua
	takeCallsScript string
)

const (
	heldScript   = `return redis.call('SSCAN',KEYS[1],ARGV[1],'COUNT',ARGV[2])`
	removeScript = `if redis.call('SCARD',KEYS[1])>0 then return 0 end
redis.call('ZREM',KEYS[2],ARGV[1]) redis.call('SREM',KEYS[3],ARGV[1])
redis.call('HDEL',KEYS[4],'n:'..ARGV[1],'s:'..ARGV[1]) return 1`
	deleteCallsScript = `return redis.call('XDEL',KEYS[1],unpack(ARGV))`
)

// Redis is a store beside a channel layer in Redis. Its keys begin with "edgerelay:presence:" and not with the channel
// layer's prefix, under which Django deletes all keys. Those of a shard have a hash tag where the layer is a cluster.
type Redis struct {
	times Times
	layer relay.ScriptRunner
	now   func() time.Time // of tests; nil: Redis's clock
}

// NewRedis returns a store beside a channel layer.
func NewRedis(layer relay.ScriptRunner, times Times) *Redis {
	return &Redis{times: times.withDefaults(), layer: layer}
}

// Shards implements [Store].
func (r *Redis) Shards() int { return r.layer.Shards() }

// Shard implements [Store].
func (r *Redis) Shard(group string) int { return r.layer.Shard(group) }

func (r *Redis) prefix(shard int) string { return r.layer.KeyPrefix(shard, "presence") }

// clock returns the argument for the time: Redis's own clock, outside tests.
func (r *Redis) clock() string {
	if r.now == nil {
		return ""
	}
	return strconv.FormatInt(r.now().UnixMilli(), 10)
}

// Register implements [Store].
func (r *Redis) Register(ctx context.Context, shard int, before Registration) (done Registered, err error) {
	p := r.prefix(shard)
	reply, err := r.layer.RunScript(ctx, shard, registerScript, []string{p + "meta", p + "nodes", p + "dead"},
		r.clock(), before.Node, rand.Text(), (r.times.Lease - r.times.suspicion()).Milliseconds())
	epoch, ok := reply.(string)
	switch {
	case err != nil:
		return done, err
	case !ok:
		return done, errReply
	}
	done.Registration = Registration{Node: before.Node, Epoch: epoch}
	done.Emptied = before.Epoch != "" && before.Epoch != epoch
	return done, nil
}

// errReply is the error for a reply that no script makes.
var errReply = errors.New("unexpected reply of redis; check that a Redis listens at this address")

// Held implements [Store].
func (r *Redis) Held(ctx context.Context, shard int, node string, cursor uint64, limit int) ([]Key, uint64, error) {
	reply, err := r.layer.RunScript(ctx, shard, heldScript, []string{r.prefix(shard) + "held:" + node}, cursor, limit)
	if err != nil {
		return nil, 0, err
	}
	page, ok := reply.([]any)
	if !ok || len(page) != 2 {
		return nil, 0, errReply
	}
	text, _ := page[0].(string)
	next, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, 0, errReply
	}
	keys, err := parseKeys(page[1])
	return keys, next, err
}

// parseKeys reads members "<group>\0<user>".
func parseKeys(reply any) ([]Key, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, errReply
	}
	keys := make([]Key, 0, len(list))
	for _, item := range list {
		text, _ := item.(string)
		key, ok := parseKey(text)
		if !ok {
			return nil, errReply
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(text string) (Key, bool) {
	group, user, ok := strings.Cut(text, "\x00")
	return Key{group, user}, ok
}

// Change implements [Store].
func (r *Redis) Change(ctx context.Context, shard int, by Registration, of string, changes []Change) (Changed, error) {
	p := r.prefix(shard)
	keys := []string{p + "meta", p + "nodes", p + "dead", p + "leaving", p + "due", p + "outbox", p + "held:" + of}
	args := make([]any, 0, 10+5*len(changes))
	args = append(args, r.clock(), by.Node, by.Epoch, by.Calls, of, r.times.Claim.Milliseconds(),
		r.times.Settle.Milliseconds(), r.times.Lease.Milliseconds(), r.times.QueueMax, p)
	numbers := make(map[string]int, len(changes))
	for i := range changes {
		c := &changes[i]
		number := numbers[c.Group]
		if number == 0 {
			number = len(numbers) + 1
			numbers[c.Group] = number
			keys = append(keys, p+"g:"+c.Group)
		}
		var a, b any = "", ""
		switch c.Op {
		case OpEnter, OpRestore, OpRestoreReleased:
			a, b = c.Info, c.Policy.encode()
		case OpClaim, OpAcknowledge:
			a, b = string(c.Kind), c.Members
		}
		args = append(args, string(c.Op), number, c.User, a, b)
	}
	reply, err := r.layer.RunScript(ctx, shard, changeScript, keys, args...)
	if err != nil {
		return Changed{}, err
	}
	return parseChanged(reply)
}

// encode returns the policy as the scripts read it.
func (p *Policy) encode() string {
	users := 0
	if p.WebhookUsers {
		users = 1
	}
	return fmt.Sprintf("%d;%d;%s;%d", p.Grace.Milliseconds(), p.AnnounceUpTo, p.Webhook, users)
}

func parseChanged(reply any) (c Changed, err error) {
	list, ok := reply.([]any)
	if !ok || len(list) < 3 || (len(list)-3)%5 != 0 {
		return c, errReply
	}
	known, _ := list[0].(int64)
	queued, _ := list[1].(int64)
	dropped, _ := list[2].(int64)
	c.Known, c.Queued, c.Dropped = known == 1, int(queued), int(dropped)
	for list = list[3:]; len(list) > 0; list = list[5:] {
		var text [4]string
		for i := range text {
			text[i], _ = list[i].(string)
		}
		members, ok := list[4].(int64)
		if !ok || len(text[0]) != 1 {
			return c, errReply
		}
		c.Announcements = append(c.Announcements, Announcement{
			Kind: Kind(text[0][0]), Key: Key{text[1], text[2]}, Info: text[3], Members: int(members),
		})
	}
	return c, nil
}

// Tend implements [Store].
func (r *Redis) Tend(ctx context.Context, shard int, by Registration, limit int) (t Tended, err error) {
	p := r.prefix(shard)
	reply, err := r.layer.RunScript(ctx, shard, tendScript,
		[]string{p + "meta", p + "nodes", p + "dead", p + "leaving", p + "due"},
		r.clock(), by.Node, by.Epoch, by.Calls, (r.times.Lease - r.times.suspicion()).Milliseconds(),
		r.times.suspicion().Milliseconds(), limit)
	if err != nil {
		return t, err
	}
	list, ok := reply.([]any)
	switch {
	case ok && len(list) == 0:
		return t, nil
	case !ok || len(list) != 3:
		return t, errReply
	}
	t.Known = true
	dead, _ := list[0].([]any)
	for _, item := range dead {
		if node, ok := item.(string); ok {
			t.Dead = append(t.Dead, node)
		}
	}
	if t.Expired, err = parseKeys(list[1]); err != nil {
		return t, err
	}
	unclaimed, _ := list[2].([]any)
	for _, item := range unclaimed {
		text, _ := item.(string)
		if text == "" {
			return t, errReply
		}
		key, ok := parseKey(text[1:])
		if !ok {
			return t, errReply
		}
		t.Unclaimed = append(t.Unclaimed, Announcement{Kind: Kind(text[0]), Key: key})
	}
	return t, nil
}

// Remove implements [Store].
func (r *Redis) Remove(ctx context.Context, shard int, node string) error {
	p := r.prefix(shard)
	_, err := r.layer.RunScript(ctx, shard, removeScript,
		[]string{p + "held:" + node, p + "nodes", p + "dead", p + "meta"}, node)
	return err
}

// List implements [Store].
func (r *Redis) List(ctx context.Context, group string, limit int) (list Members, err error) {
	shard := r.Shard(group)
	reply, err := r.layer.RunScript(ctx, shard, listScript, []string{r.prefix(shard) + "g:" + group}, limit)
	if err != nil {
		return list, err
	}
	items, ok := reply.([]any)
	if !ok || len(items)%2 != 1 {
		return list, errReply
	}
	count, _ := items[0].(int64)
	list.Count = int(count)
	for items = items[1:]; len(items) > 0; items = items[2:] {
		user, _ := items[0].(string)
		record, _ := items[1].(string)
		parts := strings.SplitN(record, " ", 3)
		if len(parts) != 3 {
			return list, errReply
		}
		list.Users = append(list.Users, Member{user, parts[2]})
	}
	list.order()
	return list, nil
}

var _ Store = (*Redis)(nil)
