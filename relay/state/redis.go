package state

import (
	"crypto/rand" // for the script
	_ "embed"
	"encoding/json"
	"log/slog"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgerelay/edgerelay/relay"
)

// The parts of the script; see the comment in prelude.lua.
var (
	//go:embed prelude.lua
	preludeScript string
	//go:embed alarms.lua
	alarmsScript string
	//go:embed values.lua
	valuesScript string

	script = preludeScript + valuesScript + alarmsScript
)

// redisPlace keeps the state of plugins in Redis. All keys of a plugin are in one shard, so that its quota is exact.
// See docs/decisions/functions.md#why-does-a-plugins-state-live-in-one-shard
type redisPlace struct {
	layer  relay.ScriptPipeliner
	limits func() *Limits
	node   string // different for each store, for the fence and for claims
	log    *slog.Logger
	stats  *Stats

	mu      sync.Mutex // guards the fields below
	writers map[int]*writer
	closed  bool

	problem atomic.Pointer[string]
}

func newRedis(layer relay.ScriptPipeliner, limits func() *Limits, stats *Stats, log *slog.Logger) *redisPlace {
	return &redisPlace{
		layer: layer, limits: limits, stats: stats, log: log, node: rand.Text(), writers: map[int]*writer{},
	}
}

func (p *redisPlace) start(r *Request, done func(Response)) {
	shard := p.layer.Shard(r.Plugin)
	if w := p.writer(shard); w == nil || !w.add(r, done) {
		status := Busy
		if w == nil {
			status = Unavailable
		}
		go done(Response{Status: status})
	}
}

// writer returns the writer of a shard, nil after close.
func (p *redisPlace) writer(shard int) *writer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	w := p.writers[shard]
	if w == nil {
		w = newWriter(p, shard)
		p.writers[shard] = w
	}
	return w
}

func (p *redisPlace) close() {
	p.mu.Lock()
	p.closed = true
	writers := p.writers
	p.writers = nil
	p.mu.Unlock()
	for _, w := range writers {
		w.close()
	}
}

func (p *redisPlace) trouble() string {
	if text := p.problem.Load(); text != nil {
		return *text
	}
	return ""
}

// report logs changes of the state of Redis.
func (p *redisPlace) report(err error) {
	switch {
	case err != nil:
		text := err.Error()
		if p.problem.Swap(&text) == nil {
			p.log.Warn("shared state unavailable", "error", err,
				"effect", "requests of functions have the status unavailable, and alarms wait",
				"remedy", "check the Redis of the shared state; its user needs access to edgerelay:* and to scripts")
		}
	case p.problem.Swap(nil) != nil:
		p.log.Info("shared state recovered")
	}
}

func (p *redisPlace) fence(shard int) string {
	return p.layer.KeyPrefix(shard, "state") + "fence:" + p.node
}

// call returns the script's keys and arguments for a request.
func (p *redisPlace) call(shard int, session string, r *Request) relay.ScriptCall {
	// An escaped name has no ':', so that no key of a plugin is a key of another one. Keys are free after the prefix.
	prefix := p.layer.KeyPrefix(shard, "state") + url.QueryEscape(r.Plugin) + ":"
	limits := p.limits()
	keys := []string{p.fence(shard), prefix + "sizes", prefix + "expiry", prefix + "bytes"}
	args := append(make([]any, 0, 9), session, r.Op.String(), r.Key, int64(0), limits.Bytes, limits.Keys)
	switch r.Op {
	case AlarmSet, AlarmCancel, opClaim, opRenew, opFinish, opRetry:
		keys = append(keys, prefix+"due", prefix+"alarms", prefix+"claims")
		args[5] = limits.Alarms
	case opUsage:
		keys = append(keys, prefix+"due")
	default:
		keys = append(keys, prefix+"v:"+r.Key)
	}
	switch r.Op {
	case Set:
		args[3], args = millis(r.TTL), append(args, r.Value)
	case Swap:
		args[3], args = millis(r.TTL), append(args, r.Value, r.Expected)
	case Add:
		args[3], args = millis(r.TTL), append(args, r.Delta)
	case Push:
		args[3], args = millis(r.TTL), append(args, r.Value, r.Limit, maxList)
	case List:
		args = append(args, "", min(r.Limit, maxElements))
	case AlarmSet:
		// The delay counts from now, so that the clocks of nodes and Redis may differ.
		args[3], args = millis(time.Until(r.At)), append(args, r.Value, startWindow.Milliseconds())
	case AlarmCancel:
		args = append(args, "", startWindow.Milliseconds())
	case opClaim:
		args[3], args = r.Delta, append(args, r.token, r.Limit)
	case opRenew, opFinish, opRetry:
		args[3], args = r.Delta, append(args, r.token, r.Limit)
	}
	return relay.ScriptCall{Keys: keys, Args: args}
}

// fenced is the status of requests of an earlier session.
const fenced = -100

// parse reads the script's reply. Any other reply than one of the script has the status [Unavailable].
func parse(op Op, value any) (res Response) {
	unexpected := Response{Status: Unavailable}
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		return unexpected
	}
	status, ok := list[0].(int64)
	if !ok || status < fenced || status > int64(Conflict) {
		return unexpected
	}
	res.Status, list = int32(status), list[1:]
	switch op {
	case List:
		return parseList(res, list)
	case AlarmSet, AlarmCancel:
		if len(list) > 0 {
			wait, _ := list[0].(int64)
			res.wait = min(time.Duration(max(wait, 0))*time.Millisecond, startWindow)
		}
	case opClaim:
		if res.Status == OK {
			return parseClaims(res, list)
		}
	case opUsage:
		if res.Status == OK && len(list) == 3 {
			res.usage.Bytes, _ = list[0].(int64)
			res.usage.Keys, _ = list[1].(int64)
			res.usage.Alarms, _ = list[2].(int64)
		}
	default:
		if len(list) > 0 {
			text, ok := list[0].(string)
			if !ok {
				return unexpected
			}
			res.Body = []byte(text)
		}
	}
	return res
}

func parseList(res Response, list []any) Response {
	texts := make([]string, len(list))
	for i := range list {
		text, ok := list[i].(string)
		if !ok {
			return Response{Status: Unavailable}
		}
		texts[i] = text
	}
	if res.Status == OK || res.Status == None {
		res.Body = encodeList(texts)
	}
	return res
}

// encodeList returns the body of [List].
func encodeList(texts []string) []byte {
	body := append(make([]byte, 0, 64), '[')
	for i, t := range texts {
		if i > 0 {
			body = append(body, ',')
		}
		quoted, _ := json.Marshal(t)
		body = append(body, quoted...)
	}
	return append(body, ']')
}

func parseClaims(res Response, list []any) Response {
	unexpected := Response{Status: Unavailable}
	if len(list)%4 != 1 {
		return unexpected
	}
	next, ok := list[0].(int64)
	if !ok {
		return unexpected
	}
	res.next = time.Duration(min(next, millis(maxTTL))) * time.Millisecond
	for list = list[1:]; len(list) > 0; list = list[4:] {
		name, ok1 := list[0].(string)
		attempts, ok2 := list[1].(int64)
		payload, ok3 := list[2].(string)
		moved, ok4 := list[3].(int64)
		if !ok1 || !ok2 || !ok3 || !ok4 {
			return unexpected
		}
		res.claims = append(res.claims, claim{name, []byte(payload), int(attempts), moved == 1})
	}
	return res
}

// session returns a text that no other session of any node has.
func session(node string, number uint64) string { return node + "." + strconv.FormatUint(number, 10) }
