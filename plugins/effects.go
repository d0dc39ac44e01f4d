package plugins

import (
	"slices"
	"sync/atomic"
	"unicode/utf8"
)

// Kinds of messages in the ABI.
const (
	kindText   = 0
	kindBinary = 1
)

// Limits of a function's effects.
const (
	maxActions       = 64      // per call
	maxActionBytes   = 4 << 20 // of all actions of a call
	maxCallRequests  = 16
	maxRequests      = 4096 // in flight, per plugin
	maxOwnRequests   = 64   // in flight, per connection
	maxContext       = 1024
	maxAutoResponses = 10
	maxAutoResponse  = 2048 // bytes of a request, and of a response
	maxCloseReason   = 123  // RFC 6455 section 5.5
)

// Results of host functions for effects.
const (
	effectDone       = 0
	effectTooMany    = -1
	effectTooLarge   = -2
	effectDenied     = -3
	effectInvalid    = -4
	effectImpossible = -5 // there is no client
)

// effects are what a hook wants to happen outside the pipeline, after it has succeeded.
type effects struct {
	actions    []Action
	requests   []*pending
	attachment []byte
	attached   bool
}

// functionCall is the state of a call's effects.
type functionCall struct {
	permitted  bool // effects take place: the call is no replay
	starting   bool // ev_init runs
	dirty      bool // the fields below are not empty
	made       effects
	bytes      int
	connection *Connection // nil without a client
	record     *callRecord // nil unless the call is recorded
	context    []byte      // of the request that on_result answers
	depth      int         // of that request, see origin
	hops       int         // of the events that publish makes, see Event.Hops
	noGroup    bool        // the host has refused a join: the name is invalid, or no pattern allows it
}

// reset forgets the call before.
func (o *functionCall) reset() {
	o.permitted, o.hops = false, 0
	if o.dirty || o.connection != nil || o.record != nil || o.noGroup || o.context != nil || o.depth != 0 {
		*o = functionCall{starting: o.starting}
	}
}

func (o *functionCall) permit(yes bool) { o.permitted = yes }

// take returns the effects of the call, nil if there are none.
func (o *functionCall) take() *effects {
	o.permitted = false
	if !o.dirty {
		return nil
	}
	made := o.made
	o.dirty, o.made, o.bytes = false, effects{}, 0
	return &made
}

// add keeps an action for the end of the call.
func (o *functionCall) add(a Action) {
	o.dirty = true
	o.made.actions = append(o.made.actions, a)
	o.bytes += len(a.Payload)
}

// room reports whether the call may have another action with a payload, as a result for the guest.
func (o *functionCall) room(payload int) int32 {
	switch {
	case len(o.made.actions) >= maxActions:
		return effectTooMany
	case payload > maxActionBytes-o.bytes:
		return effectTooLarge
	}
	return effectDone
}

// ofClient reports whether the call is for a client that is still there.
func (o *functionCall) ofClient() bool {
	return o.permitted && o.connection != nil && o.connection.phase != connectionEnded
}

func setResult(stack []uint64, v int32) { stack[0] = uint64(uint32(v)) }

func hostConnectionID(in *instance, stack []uint64) {
	if in.own.connection == nil {
		setResult(stack, -1)
		return
	}
	text := ConnectionIDText(in.own.connection.id)
	in.writeText(stack[0], stack[1], text)
	setResult(stack, int32(len(text)))
}

func hostAttachmentGet(in *instance, stack []uint64) {
	o := &in.own
	if o.connection == nil {
		setResult(stack, 0)
		return
	}
	value := o.connection.attachment // the caller holds its lock
	if o.made.attached {
		value = o.made.attachment
	}
	in.charge(int64(len(value)) / 16)
	in.write(stack[0], stack[1], value)
	setResult(stack, int32(len(value)))
}

func hostAttachmentSet(in *instance, stack []uint64) {
	value := in.read(stack[0], stack[1])
	switch o := &in.own; {
	case !o.ofClient():
		setResult(stack, effectImpossible)
	case len(value) > MaxAttachment:
		setResult(stack, effectTooLarge)
	default:
		in.charge(int64(len(value)) / 4)
		o.dirty, o.made.attached, o.made.attachment = true, true, nil
		if len(value) > 0 {
			o.made.attachment = append(make([]byte, 0, len(value)), value...)
		}
		setResult(stack, effectDone)
	}
}

func hostSend(in *instance, stack []uint64) {
	payload := in.read(stack[1], stack[2])
	in.charge(int64(len(payload)) / 4)
	if !in.own.ofClient() {
		setResult(stack, effectImpossible)
		return
	}
	kind := uint32(stack[0])
	result := in.own.room(len(payload))
	switch {
	case result != effectDone:
	case len(payload) > in.resultLimit:
		result = effectTooLarge
	case kind > kindBinary || kind == kindText && !utf8.Valid(payload):
		result = effectInvalid
	default:
		in.own.add(Action{Kind: ActionSend, Binary: kind == kindBinary, Payload: slices.Clone(payload)})
	}
	setResult(stack, result)
}

func hostJoin(in *instance, stack []uint64)  { in.changeGroup(ActionJoin, stack) }
func hostLeave(in *instance, stack []uint64) { in.changeGroup(ActionLeave, stack) }

func (in *instance) changeGroup(kind ActionKind, stack []uint64) {
	group := in.read(stack[0], stack[1])
	in.charge(int64(len(group)))
	result := int32(effectImpossible)
	if in.own.ofClient() {
		if result = in.own.room(0); result == effectDone {
			result = in.checkGroup(group, in.settings().Join)
		}
	}
	switch {
	case result == effectDone:
		in.own.add(Action{Kind: kind, Group: string(group)})
	case kind == ActionJoin && (result == effectDenied || result == effectInvalid):
		in.own.noGroup = true
	}
	setResult(stack, result)
}

// settings returns the plugin's current settings: a change of groups keeps the module.
func (in *instance) settings() *Spec {
	if pl := in.env.plugin; pl != nil {
		if spec := pl.spec.Load(); spec != nil {
			return spec
		}
	}
	return &in.m.spec
}

// checkGroup reports whether the plugin may use a group, as a result for the guest.
func (in *instance) checkGroup(group []byte, patterns []string) int32 {
	if !validGroupName(group) {
		return effectInvalid
	}
	for _, p := range patterns {
		in.charge(int64(len(p)))
		if match(p, string(group)) {
			return effectDone
		}
	}
	return effectDenied
}

// publishOthers is the flag of publish for events that the client itself does not get.
const publishOthers = 1

func hostPublish(in *instance, stack []uint64) {
	group, kind, payload := in.read(stack[0], stack[1]), in.read(stack[2], stack[3]), in.read(stack[4], stack[5])
	flags := uint32(stack[6])
	in.charge(int64(len(payload)) / 4)
	if !in.own.permitted {
		setResult(stack, effectImpossible)
		return
	}
	result := in.own.room(len(payload))
	if result == effectDone {
		result = in.checkGroup(group, in.settings().Publish)
	}
	switch {
	case result != effectDone:
	case in.own.hops > maxHops:
		result = effectDenied
	case len(payload) > in.resultLimit:
		result = effectTooLarge
	case flags&^publishOthers != 0 || !utf8.Valid(payload) || !validType(kind) || len(kind) > 0 && !isObject(payload):
		result = effectInvalid
	default:
		in.own.add(Action{
			Kind: ActionPublish, Group: string(group), Type: string(kind), Payload: slices.Clone(payload),
			Others: flags&publishOthers != 0, Hops: in.own.hops,
		})
	}
	setResult(stack, result)
}

// validType reports whether a message can have the type, which is empty for a text that clients get as it is.
func validType(kind []byte) bool {
	return len(kind) <= maxType && utf8.Valid(kind) && (len(kind) == 0 || kind[0] != '_' && kind[0] != '.')
}

// maxType is the greatest length of a message's type in bytes.
const maxType = 250

func hostClose(in *instance, stack []uint64) {
	code, reason := uint32(stack[0]), in.read(stack[1], stack[2])
	result := int32(effectImpossible)
	if in.own.ofClient() {
		result = in.own.room(0)
	}
	switch {
	case result != effectDone:
	case !validCloseCode(code) || len(reason) > maxCloseReason || !utf8.Valid(reason):
		result = effectInvalid
	default:
		in.own.add(Action{Kind: ActionClose, Code: uint16(code), Payload: slices.Clone(reason)})
	}
	setResult(stack, result)
}

func validCloseCode(code uint32) bool {
	switch code {
	case 1000, 1008, 1011, 1013:
		return true
	}
	return code >= 3000 && code <= 4999
}

func hostAutoResponse(in *instance, stack []uint64) {
	request, response := in.read(stack[0], stack[1]), in.read(stack[2], stack[3])
	in.charge(int64(len(request)+len(response)) / 4)
	result := int32(effectDone)
	switch {
	case !in.own.starting:
		result = effectImpossible
	case len(in.autoResponses) >= maxAutoResponses:
		result = effectTooMany
	case len(request) == 0 || len(request) > maxAutoResponse || len(response) > maxAutoResponse:
		result = effectTooLarge
	case !utf8.Valid(request) || !utf8.Valid(response):
		result = effectInvalid
	default:
		if in.autoResponses == nil {
			in.autoResponses = map[string][]byte{}
		}
		in.autoResponses[string(request)] = slices.Clone(response)
	}
	setResult(stack, result)
}

func hostResultContext(in *instance, stack []uint64) {
	context := in.own.context
	if context == nil {
		setResult(stack, -1)
		return
	}
	in.write(stack[0], stack[1], context)
	setResult(stack, int32(len(context)))
}

// world is the part of the world that functions change, and all plugins of a Pipeline share.
type world struct {
	services  atomic.Pointer[Services]
	publisher atomic.Pointer[func(plugin string, a *Action)]
	tokens    atomic.Int64
}

// SetServices sets the services that carry out the requests of plugins.
func (p *Pipeline) SetServices(s Services) { p.host.world.services.Store(&s) }

// SetPublisher sets the function that publishes the messages of plugins that have no client, such as those of on_event.
// f must return quickly.
func (p *Pipeline) SetPublisher(f func(plugin string, a *Action)) { p.host.world.publisher.Store(&f) }

// publish publishes the messages among actions that concern no client.
func (e *environment) publish(actions []Action) {
	if e.world == nil {
		return
	}
	f := e.world.publisher.Load()
	for i := range actions {
		if a := &actions[i]; a.Kind == ActionPublish && f != nil {
			(*f)(e.log.name, a)
		}
	}
}

// commit makes the effects of a call without a client take effect.
func (m *module) commit(made *effects, from origin) {
	if from.plugin == nil || from.plugin.spec.Load().Shadow {
		return
	}
	m.env.publish(made.actions)
	from.plugin.start(made.requests, from)
}
