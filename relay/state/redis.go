package state

import (
	"crypto/rand" // for the script
	_ "embed"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
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

	//go:embed requests.lua
	requestsScript string

	script = preludeScript + valuesScript + alarmsScript + requestsScript
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

// scriptRequests is the number of requests in a run of the script: while it runs, Redis serves nothing else.
const scriptRequests = 32

// calls returns the runs of the script that carry out a batch.
func (p *redisPlace) calls(shard int, session string, batch []*queued) []relay.ScriptCall {
	calls := make([]relay.ScriptCall, 0, (len(batch)+scriptRequests-1)/scriptRequests)
	for some := range slices.Chunk(batch, scriptRequests) {
		calls = append(calls, p.call(shard, session, some))
	}
	return calls
}

// ownKeys is the number of keys of a plugin, besides its values.
const ownKeys = 6

// call returns the script's keys and arguments for requests.
func (p *redisPlace) call(shard int, session string, requests []*queued) relay.ScriptCall {
	all, limits := p.layer.KeyPrefix(shard, "state"), p.limits()
	keys := append(make([]string, 0, 1+ownKeys+len(requests)), p.fence(shard))
	args := append(make([]any, 0, 4+8*len(requests)), session, limits.Bytes, limits.Keys, limits.Alarms)
	last, prefix, block := "", "", 0 // of the request before: most batches are of one plugin
	blocks := map[string]int{}
	for _, q := range requests {
		r := q.Request
		if r.Plugin != last || block == 0 {
			// An escaped name has no ':', so that no key of a plugin is a key of another one. Keys are free after the prefix.
			last, prefix = r.Plugin, all+url.QueryEscape(r.Plugin)+":"
			if block = blocks[last]; block == 0 {
				block = len(keys) + 1
				blocks[last] = block
				keys = append(keys, prefix+"sizes", prefix+"expiry", prefix+"bytes", prefix+"due", prefix+"alarms", prefix+"claims")
			}
		}
		value := 0
		if r.Op < AlarmSet {
			keys = append(keys, prefix+"v:"+r.Key)
			value = len(keys)
		}
		args = append(args, r.Op.String(), block, value, r.Key)
		args = appendArgs(args, r)
	}
	return relay.ScriptCall{Keys: keys, Args: args}
}

// appendArgs appends the number of a request, and the three arguments that its operation names.
func appendArgs(args []any, r *Request) []any {
	switch r.Op {
	case Set:
		return append(args, millis(r.TTL), r.Value, "", "")
	case Swap:
		return append(args, millis(r.TTL), r.Value, r.Expected, "")
	case Add:
		return append(args, millis(r.TTL), r.Delta, "", "")
	case Push:
		return append(args, millis(r.TTL), r.Value, r.Limit, maxList)
	case List:
		return append(args, 0, "", min(r.Limit, maxElements), "")
	case AlarmSet:
		// The delay counts from now, so that the clocks of nodes and Redis may differ.
		return append(args, millis(time.Until(r.At)), r.Value, startWindow.Milliseconds(), "")
	case AlarmCancel:
		return append(args, 0, "", startWindow.Milliseconds(), "")
	case opClaim, opRenew, opFinish, opRetry:
		return append(args, r.Delta, r.token, r.Limit, "")
	}
	return append(args, 0, "", "", "")
}

const (
	// fenced is the only element of the reply to requests of an earlier session.
	fenced = -100
	// rejected is the status of a request that Redis rejected, followed by the reason.
	rejected = -101
)

// isFenced reports whether a reply says that the node has begun another session.
func isFenced(list []any) bool { return len(list) == 1 && list[0] == int64(fenced) }

// rejection returns the error of a request that Redis rejected, nil for any other result.
func rejection(result any) error {
	list, ok := result.([]any)
	if !ok || len(list) != 2 || list[0] != int64(rejected) {
		return nil
	}
	text, _ := list[1].(string)
	return errors.New(strings.TrimPrefix(text, "ERR "))
}

// hadNoEffect reports whether a rejection holds for every write, so that the request had none, and another host may
// take it: the host is a replica now.
func hadNoEffect(err error) bool { return strings.Contains(err.Error(), "READONLY") }

// parse reads the script's result of a request. Any other result than one of the script has the status [Unavailable].
func parse(op Op, value any) (res Response) {
	unexpected := Response{Status: Unavailable}
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		return unexpected
	}
	status, ok := list[0].(int64)
	if !ok || status < int64(Busy) || status > int64(Conflict) {
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
