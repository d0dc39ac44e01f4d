package presence

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// TakeCalls implements [Store].
func (r *Redis) TakeCalls(ctx context.Context, shard int, node, webhook string, limit int) ([]Call, error) {
	p := r.prefix(shard)
	reply, err := r.layer.RunScript(ctx, shard, takeCallsScript,
		[]string{p + "meta", p + "calls:" + webhook, p + "sender:" + webhook},
		node, r.times.Lease.Milliseconds(), limit)
	if err != nil {
		return nil, err
	}
	list, ok := reply.([]any)
	switch {
	case ok && len(list) == 0:
		return nil, nil
	case !ok || len(list) != 2:
		return nil, errReply
	}
	epoch, _ := list[0].(string)
	entries, _ := list[1].([]any)
	calls := make([]Call, 0, len(entries))
	for _, e := range entries {
		entry, ok := e.([]any)
		if !ok || len(entry) != 2 {
			return nil, errReply
		}
		id, _ := entry[0].(string)
		fields, _ := entry[1].([]any)
		calls = append(calls, parseCall(epoch, id, fields))
	}
	return calls, nil
}

// parseCall reads an entry of a stream. Missing fields stay empty.
func parseCall(epoch, id string, fields []any) Call {
	c := Call{ID: epoch + "-" + id}
	for ; len(fields) >= 2; fields = fields[2:] {
		name, _ := fields[0].(string)
		value, _ := fields[1].(string)
		switch name {
		case "t":
			c.Type = value
		case "g":
			c.Group = value
		case "u":
			c.User = value
		case "i":
			c.Info = value
		case "n":
			c.Count, _ = strconv.Atoi(value)
		case "at":
			millis, _ := strconv.ParseInt(value, 10, 64)
			c.Time = time.UnixMilli(millis).UTC()
		}
	}
	return c
}

// DeleteCalls implements [Store].
func (r *Redis) DeleteCalls(ctx context.Context, shard int, webhook string, calls []Call) error {
	if len(calls) == 0 {
		return nil
	}
	ids := make([]any, len(calls))
	for i, c := range calls {
		_, id, _ := strings.Cut(c.ID, "-")
		ids[i] = id
	}
	_, err := r.layer.RunScript(ctx, shard, deleteCallsScript, []string{r.prefix(shard) + "calls:" + webhook}, ids...)
	return err
}
