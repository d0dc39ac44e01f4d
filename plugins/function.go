package plugins

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"unicode/utf8"

	"github.com/tetratelabs/wazero/api"
)

// functionExports are the exports of an instance for the clients of a route, and for what follows from their requests.
type functionExports struct {
	onConnect, onMessage, onClose, onResult, onAlarm api.Function
}

func (e *functionExports) find(m api.Module) {
	e.onConnect = m.ExportedFunction(exportOnConnect)
	e.onMessage = m.ExportedFunction(exportOnMessage)
	e.onClose = m.ExportedFunction(exportOnClose)
	e.onResult = m.ExportedFunction(exportOnResult)
	e.onAlarm = m.ExportedFunction(exportOnAlarm)
}

// functionInput is a call of a function's hook.
type functionInput struct {
	hook       Hook
	hash       uint64      // selects the instance
	user       uint64      // of on_connect: a hash of the client's user or address, for the circuit breaker
	place      string      // by which a canary divides calls
	connection *Connection // nil without a client
	record     *callRecord // nil unless the call is recorded
	call       func(in *instance) *Failure
}

// find returns a plugin by name, nil if it is not configured.
func (p *Pipeline) find(name string) *plugin {
	for _, pl := range *p.order.Load() {
		if pl.name == name {
			return pl
		}
	}
	return nil
}

// HasFunction reports whether a plugin is configured and its module has hooks for clients.
func (p *Pipeline) HasFunction(name string) bool {
	pl := p.find(name)
	if pl == nil {
		return false
	}
	m := pl.live()
	return m != nil && m.hooks&ofClients != 0
}

// callFunction calls a hook of the place's module, or if that fails and on_error is last_good, of the module before. It
// returns the effects, which the caller commits: nil if there are none, or if the module has no such hook.
func (p *plugin) callFunction(f functionInput) (*effects, error) {
	if d := p.deployment.Load(); d.canary != nil {
		return p.callFunctionInCanary(d, f)
	}
	made, _, err := p.decideFunction(f)
	return made, err
}

// decideFunction is callFunction without the observation of a canary. failure is that of the place's module, also if
// the module before has taken the call.
func (p *plugin) decideFunction(f functionInput) (made *effects, failure, err error) {
	key := breakerKey{hook: f.hook, subject: f.hash &^ replaySubject}
	if f.hook == OnConnect {
		key.subject = f.user &^ replaySubject
	}
	m, s, err := p.acquireFor(f.place, key, f.hash)
	for s != nil {
		if made, err = m.callFunction(s, key, f); err != errReplaced {
			if err == nil {
				return made, nil, nil
			}
			break
		}
		m, s, err = p.acquireFor(f.place, key, f.hash)
	}
	var refused *RefusedError
	switch {
	case err == nil: // no such hook
		return nil, nil, nil
	case errors.As(err, &refused):
		return nil, nil, refused
	case err == ErrBusy:
		return nil, nil, fmt.Errorf("plugin %s: %w", p.name, err)
	case err == errReplaced:
		return nil, nil, fmt.Errorf("plugin %s: %w", p.name, errNoFunction)
	}
	if m, s := p.acquireFallbackFor(f.place, key, f.hash); s != nil {
		made, failed := m.callFunction(s, key, f)
		if failed == nil || errors.As(failed, &refused) {
			return made, err, failed
		}
	}
	return nil, err, err
}

// callFunction calls the hook and releases the slot.
func (m *module) callFunction(s *slot, key breakerKey, f functionInput) (*effects, error) {
	in := s.instance
	in.own.connection, in.own.record = f.connection, f.record
	if f.record != nil {
		f.record.start(in.env.now())
	}
	failure := f.call(in)
	in.own.connection, in.own.record = nil, nil
	if failure != nil {
		var refused *RefusedError
		if !errors.As(failure.Err, &refused) {
			return nil, m.release(s, key, failure)
		}
		in.own.take()
		s.tally.answered++
		if err := m.release(s, key, nil); err != nil {
			return nil, err
		}
		return nil, refused
	}
	made := in.own.take()
	s.tally.answered++
	return made, m.release(s, key, nil)
}

// forgives reports whether a client may stay after a message that its function could not handle.
func (p *plugin) forgives() bool {
	policy := p.spec.Load().OnError
	return policy == OnErrorPass || policy == OnErrorDrop
}

// autoResponse returns the module's answer to a text message that needs no call.
func (p *plugin) autoResponse(place string, message []byte) ([]byte, bool) {
	m := p.serving(place)
	if m == nil || m.autoResponses == nil {
		return nil, false
	}
	response, ok := m.autoResponses[string(message)]
	return response, ok
}

// begin prepares a call of a function's hook.
func (in *instance) beginFunction(a string, b []byte) *Failure {
	conn, record := in.own.connection, in.own.record
	if f := in.prepare(a, b, nil); f != nil {
		return f
	}
	in.group, in.source, in.position, in.hops = "", "", Position{}, 0
	in.effects = false // emit and audience need an event
	in.own.connection, in.own.record = conn, record
	in.own.permit(true)
	return nil
}

// connect calls on_connect. The error of a refusal is a *RefusedError.
func (in *instance) connect(ctx context.Context, request []byte) *Failure {
	if f := in.beginFunction("", request); f != nil {
		return f
	}
	in.limits.caller = ctx
	in.stack[0] = uint64(len(request))
	err := in.functions.onConnect.CallWithStack(in, in.stack[:1])
	in.limits.caller = nil
	in.finish()
	if err != nil {
		return in.failure(exportOnConnect, err)
	}
	v := in.stack[0]
	if ptr, n := uint32(v>>32), uint32(v); ptr != 0 {
		b, ok := in.mem.Read(ptr, n)
		if !ok {
			return in.fail(KindRange, exportOnConnect, "the reason %#x + %d lies outside the memory", ptr, n)
		}
		reason := in.m.conceal.cut(strings.ToValidUTF8(string(b[:min(len(b), maxReason)]), "\uFFFD"))
		return in.refused(403, reason)
	}
	switch {
	case v == resultPass:
		return nil
	case v == resultDrop:
		return in.refused(403, "")
	case v == resultError && in.own.noGroup:
		// A client asks for a group that it cannot have, mostly by its path: the fault is not the plugin's, and its circuit
		// breaker must not open.
		return in.refused(403, "no such group, or the function may not let clients join it")
	case v == resultError:
		return in.refuse(KindGuest, exportOnConnect, "the plugin reported an error%s", in.lastLogSuffix())
	case v >= resultStatus+400 && v < resultStatus+600:
		return in.refused(int(v-resultStatus), "")
	}
	return in.unknownResult(exportOnConnect, v)
}

// refused is the result of a guest that refuses a client. It is no failure.
func (in *instance) refused(status int, reason string) *Failure {
	return &Failure{Plugin: in.m.spec.Name, Call: exportOnConnect, Err: &RefusedError{status, reason}, intact: true}
}

// message calls on_message.
func (in *instance) message(text bool, message []byte) *Failure {
	if f := in.beginFunction("", message); f != nil {
		return f
	}
	kind := kindBinary
	if text {
		kind = kindText
	}
	in.stack[0], in.stack[1] = uint64(kind), uint64(len(message))
	err := in.functions.onMessage.CallWithStack(in, in.stack[:2])
	in.finish()
	if err != nil {
		return in.failure(exportOnMessage, err)
	}
	v := in.stack[0]
	ptr, n := uint32(v>>32), uint32(v)
	if ptr == 0 {
		return in.functionResult(exportOnMessage, v)
	}
	b, ok := in.mem.Read(ptr, n)
	switch {
	case !ok:
		return in.fail(KindRange, exportOnMessage, "the reply %#x + %d lies outside the memory", ptr, n)
	case int(n) > in.resultLimit:
		return in.refuse(KindTooLarge, exportOnMessage, "the reply has %d bytes, more than max_result (%d)", n, in.resultLimit)
	case text && !utf8.Valid(b):
		return in.refuse(KindText, exportOnMessage, "the reply is not UTF-8")
	}
	in.own.add(Action{Kind: ActionSend, Binary: !text, Payload: append([]byte{}, b...)})
	return nil
}

// closed calls on_close.
func (in *instance) closed(code int, reason string) *Failure {
	if f := in.beginFunction(reason, nil); f != nil {
		return f
	}
	in.stack[0], in.stack[1] = uint64(uint32(code)), uint64(len(reason))
	return in.callFunction(exportOnClose, in.functions.onClose, 2)
}

// answer calls on_result. depth is the number of answers that have led to this one since its origin had a client, and
// hops are those of the events that it publishes.
func (in *instance) answer(a *answer, depth, hops int) *Failure {
	if f := in.beginFunction("", a.Body); f != nil {
		return f
	}
	in.own.context, in.own.depth, in.own.hops = a.context, depth, hops
	in.stack[0], in.stack[1], in.stack[2] = uint64(a.token), uint64(uint32(a.Status)), uint64(len(a.Body))
	return in.callFunction(exportOnResult, in.functions.onResult, 3)
}

// alarm calls on_alarm.
func (in *instance) alarm(ctx context.Context, name string, payload []byte) *Failure {
	if f := in.beginFunction(name, payload); f != nil {
		return f
	}
	in.limits.caller = ctx
	in.stack[0], in.stack[1] = uint64(len(name)), uint64(len(payload))
	return in.callFunction(exportOnAlarm, in.functions.onAlarm, 2)
}

func (in *instance) callFunction(export string, f api.Function, params int) *Failure {
	err := f.CallWithStack(in, in.stack[:params])
	in.finish()
	if err != nil {
		return in.failure(export, err)
	}
	return in.functionResult(export, in.stack[0])
}

// functionResult checks the result of a hook that returns none.
func (in *instance) functionResult(export string, v uint64) *Failure {
	switch v {
	case resultPass:
		return nil
	case resultError:
		return in.refuse(KindGuest, export, "the plugin reported an error%s", in.lastLogSuffix())
	}
	return in.unknownResult(export, v)
}

// Alarm calls on_alarm of a plugin, then publish for each message of the plugin, in order, until one fails; nil
// discards the messages. Only then the plugin's requests begin. After an error, the alarm was not handled: the caller
// tries again later.
func (p *Pipeline) Alarm(
	ctx context.Context, plugin, name string, payload []byte, publish func(*Action) error,
) error {
	pl := p.find(plugin)
	if pl == nil {
		return unknownPlugin(plugin)
	}
	if m := pl.serving(name); pl.spec.Load().Shadow || m != nil && m.hooks&OnAlarm == 0 {
		return fmt.Errorf("plugin %s: %w ev_on_alarm", plugin, ErrNoHook)
	}
	hash := maphash.String(p.seed, name)
	var record *callRecord
	if r := pl.recording.Load(); r != nil {
		record = r.alarm(name, payload)
	}
	made, err := pl.callFunction(functionInput{
		hook: OnAlarm, hash: hash, place: name, record: record,
		call: func(in *instance) *Failure { return in.alarm(ctx, name, payload) },
	})
	record.end(nil, made, err)
	if err != nil {
		return err
	}
	if made == nil {
		return nil
	}
	for i := range made.actions {
		if a := &made.actions[i]; a.Kind == ActionPublish && publish != nil {
			if err := publish(a); err != nil {
				return fmt.Errorf("plugin %s: publish a message of ev_on_alarm: %w", plugin, err)
			}
		}
	}
	pl.start(made.requests, origin{plugin: pl, hash: hash, place: name})
	return nil
}
