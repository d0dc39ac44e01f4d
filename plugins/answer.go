package plugins

import "sync"

// answer is a service's answer to a request of a plugin.
type answer struct {
	Response
	token   int64
	context []byte
	plugin  *plugin // that counts the request
}

// answers holds the answers that have come for a connection until its function gets them, one at a time. Methods are
// safe for concurrent use.
type answers struct {
	mu      sync.Mutex // guards the fields below
	asked   int32      // requests whose answers the function has not got
	running bool       // a goroutine hands answers to the function
	waiting []*answer
}

func (a *answers) inFlight() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(a.asked)
}

// start starts requests, in order. The caller holds the lock of the origin's connection, if there is one.
func (p *plugin) start(requests []*pending, from origin) {
	if len(requests) == 0 {
		return
	}
	services := p.env.world.services.Load()
	for _, r := range requests {
		done := p.expect(r, from)
		var service Service
		if services != nil {
			service = services.of(r.Op)
		}
		switch {
		case p.env.inFlight.Load() > maxRequests:
			done(Response{Status: StatusBusy})
		case service == nil:
			done(Response{Status: StatusUnavailable})
		default:
			service.Start(&r.Request, done)
		}
	}
}

// expect counts a request, and returns the function that takes its answer, once. A request is in flight until the
// function has its answer: answers that wait take memory, too.
func (p *plugin) expect(r *pending, from origin) func(Response) {
	p.env.inFlight.Add(1)
	c := from.connection
	if c != nil {
		c.answers.add(1)
	}
	var once sync.Once
	return func(response Response) {
		once.Do(func() {
			a := &answer{Response: response, token: r.token, context: r.context, plugin: p}
			switch {
			case !p.listens(from.placeOf()):
				a.settle(c)
			case c != nil:
				c.answered(a)
			default:
				go p.answerEvent(a, from)
			}
		})
	}
}

// settle ends the request of an answer.
func (a *answer) settle(c *Connection) {
	a.plugin.env.inFlight.Add(-1)
	if c != nil {
		c.answers.add(-1)
	}
}

// add counts requests in flight.
func (a *answers) add(n int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked += n
}

// listens reports whether the place's module wants to know the answers.
func (p *plugin) listens(place string) bool {
	m := p.serving(place)
	return m != nil && m.hooks&OnResult != 0
}

// answerEvent hands the answer to a request without a client to the plugin.
func (p *plugin) answerEvent(a *answer, from origin) {
	var record *callRecord
	if r := p.recording.Load(); r != nil {
		if record = r.beginWithout(OnResult, a.token); record != nil {
			record.setAnswer(a)
		}
	}
	made, err := p.callFunction(functionInput{
		hook: OnResult, hash: from.hash, place: from.place, record: record,
		call: func(in *instance) *Failure { return in.answer(a, from.depth+1, from.hops) },
	})
	record.end(nil, made, err)
	if err == nil && made != nil {
		p.env.publish(made.actions)
		from.depth++
		p.start(made.requests, from)
	}
	a.settle(nil)
}

// answered queues an answer for the connection's function.
func (c *Connection) answered(a *answer) {
	q := &c.answers
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, a)
	if !q.running {
		q.running = true
		go c.handleAnswers()
	}
}

// handleAnswers hands answers to the function until none is left.
func (c *Connection) handleAnswers() {
	q := &c.answers
	for {
		q.mu.Lock()
		list := q.waiting
		q.waiting = nil
		if len(list) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for _, a := range list {
			c.handleAnswer(a)
		}
	}
}

// handleAnswer hands an answer to the function. A function that fails on it may have left its client waiting: unless
// on_error forgives failures, the client's connection ends.
func (c *Connection) handleAnswer(a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.settle(c) // the hook may make another request in its place
	if c.phase == connectionEnded {
		c.afterwards++
	}
	pl := c.plugin()
	record := pl.record(OnResult, c)
	if record != nil {
		record.setAnswer(a)
	}
	made, err := c.call(pl, OnResult, record, func(in *instance) *Failure { return in.answer(a, c.afterwards, 0) })
	switch {
	case err == nil:
		c.commit(made)
	case c.client != nil && !c.forgiven():
		c.client.Perform([]Action{{Kind: ActionClose, Code: CloseFunctionFailed, Payload: []byte(FunctionFailed)}})
	}
}

func (c *Connection) forgiven() bool {
	pl := c.plugin()
	return pl != nil && pl.forgives()
}

// CloseFunctionFailed and FunctionFailed are the code and the reason with which a client is closed whose message, or
// the answer to whose request, its function could not handle.
const (
	CloseFunctionFailed = 1011
	FunctionFailed      = "function failed"
)
