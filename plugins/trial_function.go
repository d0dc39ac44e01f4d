package plugins

import (
	"context"
	"errors"
	"strconv"
)

// defaultRequest is the request of on_connect in a sample without one.
const defaultRequest = `{"id":"0000000000000001","path":"/","query":"","params":{},"user":null,"user_key":"",` +
	`"address":"","headers":{},"subprotocols":[]}`

// connection returns the connection of a sample's client.
func (r *trialRun) connection(f *FunctionSample) *Connection {
	c := r.connections[f.Client]
	if c == nil {
		c = &Connection{id: clientID(f, len(r.connections)+1), phase: connectionOpen}
		if r.connections == nil {
			r.connections = map[string]*Connection{}
		}
		r.connections[f.Client] = c
	}
	switch {
	case f.AttachmentBinary != nil:
		c.attachment = f.AttachmentBinary
	case f.Attachment != nil:
		c.attachment = []byte(*f.Attachment)
	}
	return c
}

// clientID returns the id of a sample's connection: the client's name, if it is an id, as it is in recordings.
func clientID(f *FunctionSample, number int) uint64 {
	if id, err := strconv.ParseUint(f.Client, 16, 64); err == nil && len(f.Client) == 16 {
		return id
	}
	return uint64(number)
}

// tryFunction calls a hook of a function and sets the result.
func (r *trialRun) tryFunction(s *Sample, t *Trace) *Failure {
	f := s.Function
	if f == nil {
		f = &FunctionSample{}
	}
	in := r.instance
	if t.Hook == OnConnect {
		delete(r.connections, f.Client) // a new one
	}
	var c *Connection
	if t.Hook != OnAlarm {
		c = r.connection(f)
	}
	in.own.connection = c
	r.env.random.give(f.Random)
	failure := r.callFunction(in, s, f, t)
	in.own.connection = nil
	r.requests = nil
	var refused *RefusedError
	switch {
	case failure == nil:
		t.Verdict = Pass
		if t.Hook == OnConnect {
			t.Verdict = Allow
		}
	case errors.As(failure.Err, &refused):
		in.own.take()
		t.Verdict, t.Status, t.Reason = Deny, refused.Status, refused.Reason
		return nil
	default:
		return failure
	}
	made := in.own.take()
	t.Effects = made.list()
	if made != nil {
		r.requests = made.requests
	}
	if c != nil {
		if made != nil && made.attached {
			c.attachment = made.attachment
		}
		t.Attachment = string(c.attachment)
	}
	return nil
}

func (r *trialRun) callFunction(in *instance, s *Sample, f *FunctionSample, t *Trace) *Failure {
	switch t.Hook {
	case OnConnect:
		request := []byte(f.Request)
		if request == nil {
			request = []byte(defaultRequest)
		}
		return in.connect(r.ctx, request)
	case OnMessage:
		if f.Binary != nil {
			return in.message(false, f.Binary)
		}
		if response, ok := in.m.autoResponses[string(s.payload())]; ok {
			in.own.add(Action{Kind: ActionSend, Payload: response})
			return nil
		}
		return in.message(true, s.payload())
	case OnClose:
		code := 1000
		if f.Code != nil {
			code = *f.Code
		}
		in.own.connection.phase = connectionEnded // the hook cannot act on the client any more
		failure := in.closed(code, string(s.payload()))
		delete(r.connections, f.Client)
		return failure
	case OnResult:
		a := &answer{Response: Response{Status: f.Status, Body: s.payload()}, token: 1, context: f.context()}
		if r.answer != nil {
			a.token, a.context = r.answer.token, r.answer.context
		}
		return in.answer(a, 0, 0)
	}
	return in.alarm(context.Background(), f.Name, s.payload())
}
