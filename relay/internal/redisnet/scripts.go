package redisnet

import (
	"context"
	"errors"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/edgerelay/edgerelay/relay"
)

// notRun are the codes of errors for commands that Redis rejects before they run. Another node of the cluster, or the
// same host a little later, may run them.
var notRun = []string{
	"NOSCRIPT", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "BUSY",
}

// RunScripts runs a script once for each call, in order, in one pipeline. The keys of all calls are on the same host.
// The client must not repeat commands.
func RunScripts(
	ctx context.Context, c interface{ Pipeline() goredis.Pipeliner }, script string, calls []relay.ScriptCall,
) []relay.ScriptReply {
	known, ok := scripts.Load(script)
	if !ok {
		known, _ = scripts.LoadOrStore(script, goredis.NewScript(script))
	}
	s := known.(*goredis.Script)
	replies := runScripts(ctx, c, s, calls, false)
	for i := range replies {
		if r := &replies[i]; r.Err == nil || !strings.HasPrefix(r.Err.Error(), "NOSCRIPT") {
			return replies
		}
	}
	return runScripts(ctx, c, s, calls, true)
}

// runScripts runs the calls once. With load, the first call brings the script.
func runScripts(
	ctx context.Context, c interface{ Pipeline() goredis.Pipeliner }, s *goredis.Script, calls []relay.ScriptCall,
	load bool,
) []relay.ScriptReply {
	pipe := c.Pipeline()
	commands := make([]*goredis.Cmd, len(calls))
	for i := range calls {
		run := s.EvalSha
		if load && i == 0 {
			run = s.Eval
		}
		commands[i] = run(ctx, pipe, calls[i].Keys, calls[i].Args...)
	}
	_, _ = pipe.Exec(ctx) // Each command has its own error.
	replies := make([]relay.ScriptReply, len(calls))
	for i, command := range commands {
		value, err := command.Result()
		if errors.Is(err, goredis.Nil) {
			err = nil
		}
		replies[i] = relay.ScriptReply{Value: value, Err: err, NotRun: err != nil && hasNotRun(err)}
	}
	return replies
}

// hasNotRun reports whether an error means that a command was never run.
func hasNotRun(err error) bool {
	var failed *net.OpError
	if errors.As(err, &failed) && failed.Op == "dial" {
		return true
	}
	var refused goredis.Error
	if !errors.As(err, &refused) {
		return false
	}
	code, _, _ := strings.Cut(err.Error(), " ")
	for _, c := range notRun {
		if code == c {
			return true
		}
	}
	return false
}
