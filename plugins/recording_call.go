package plugins

import "time"

// callRecord is a call that is recorded. The instance sets the time and the random bytes.
type callRecord struct {
	recording *Recording
	client    *recordedClient // nil without a client
	sample    Sample
	function  FunctionSample
	at        time.Time // at which the clock of the plugin stands still during the call; zero before
	random    []byte
}

// begin begins the record of a call for a client, nil if the client is not recorded.
func (r *Recording) begin(hook Hook, c *Connection) *callRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	client := r.clients[c.id]
	if client == nil {
		if hook != OnConnect && (!r.options.Open || hook == OnClose || c.phase == connectionEnded) ||
			len(r.clients) >= r.options.Connections || r.options.Path != "" && !match(r.options.Path, c.place) {
			return nil
		}
		client = &recordedClient{}
		r.clients[c.id] = client
		r.open++
	}
	rec := r.newRecord(hook, client)
	rec.function.Client = ConnectionIDText(c.id)
	if !client.begun && hook != OnConnect {
		rec.function.setAttachment(c.attachment)
	}
	return rec
}

// beginWithout begins the record of a call without a client: of an alarm, or of the answer to a request that a recorded
// call has made.
func (r *Recording) beginWithout(hook Hook, token int64) *callRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.tokens[token]
	if r.over || r.options.Path != "" || hook == OnResult && !known {
		return nil
	}
	return r.newRecord(hook, nil)
}

func (r *Recording) newRecord(hook Hook, client *recordedClient) *callRecord {
	rec := &callRecord{recording: r, client: client}
	rec.sample.Hook, rec.sample.Function = hook, &rec.function
	return rec
}

// start sets the time at which the clock of the plugin stands still during the call.
func (rec *callRecord) start(now time.Time) { rec.at, rec.random = now.Round(0), nil }

// addRandom keeps the first bytes that the plugin gets from random_get.
func (rec *callRecord) addRandom(b []byte) {
	rec.random = append(rec.random, b[:min(len(b), maxRecordedRandom-len(rec.random))]...)
}

// alarm begins the record of an alarm, nil if alarms are not recorded.
func (r *Recording) alarm(name string, payload []byte) *callRecord {
	rec := r.beginWithout(OnAlarm, 0)
	if rec != nil {
		rec.function.Name = name
		rec.setText(payload)
	}
	return rec
}

// setText sets the message, the body or the reason of a call.
func (rec *callRecord) setText(b []byte) { rec.sample.setExact(b) }

// setMessage sets the message of a client.
func (rec *callRecord) setMessage(text bool, message []byte) {
	if text {
		rec.setText(message)
	} else {
		rec.function.Binary = append([]byte{}, message...)
	}
}

// autoResponse records a message whose response needs no call.
func (rec *callRecord) autoResponse(c *Connection, message, response []byte) {
	if rec == nil {
		return
	}
	rec.setText(message)
	rec.start(c.pipeline.host.now())
	rec.end(c.attachment, &effects{actions: []Action{{Kind: ActionSend, Payload: response}}}, nil)
}

// setAnswer sets the answer to a request.
func (rec *callRecord) setAnswer(a *answer) {
	r := rec.recording
	r.mu.Lock()
	rec.function.Token = r.tokens[a.token]
	delete(r.tokens, a.token)
	r.mu.Unlock()
	rec.function.Status = a.Status
	rec.function.setContext(a.context)
	rec.setText(a.Body)
}

// end ends the record of a call with the function's decision. attachment is that of the connection before the call. The
// call was not made if err is no failure of the function; then the conversation has a hole.
func (rec *callRecord) end(attachment []byte, made *effects, err error) {
	if rec == nil {
		return
	}
	r := rec.recording
	rec.setDecision(attachment, made, err)
	r.number(rec, made)
	line := rec.line()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(rec.client, line, notCalled(err))
	over := rec.sample.Hook == OnClose || rec.sample.Hook == OnConnect && err != nil
	if c := rec.client; c != nil && over && !c.closed {
		c.closed = true
		r.open--
	}
	if r.complete() {
		r.end()
	}
}

// number gives the requests of a call their numbers in the recording. Their answers cannot be there yet.
func (r *Recording) number(rec *callRecord, made *effects) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if made == nil || r.over {
		return
	}
	m := r.plugin.live()
	for _, q := range made.requests {
		r.asked++
		if m != nil && m.hooks&OnResult != 0 { // otherwise no answer comes
			r.tokens[q.token] = r.asked
		}
		rec.function.Tokens = append(rec.function.Tokens, r.asked)
	}
}

// line returns the line of a call, without secrets. Calls of a client do not overlap.
func (rec *callRecord) line() []byte {
	s, f := &rec.sample, &rec.function
	s.Clock, f.Random = rec.at, rec.random
	r := rec.recording
	var found *secretTexts
	if rec.client != nil && f.Request != nil {
		f.Request, found = r.redact.request(f.Request)
	}
	secrets := r.secretsOf(rec.client, found)
	var configured *concealer
	if m := r.plugin.live(); m != nil {
		configured = m.conceal
	}
	if configured != nil || len(secrets) > 0 {
		replaceInSample(s, func(text string) string {
			for _, of := range secrets {
				text = of.replace(text)
			}
			return configured.text(text)
		})
	}
	return append(AppendSample(nil, s), '\n')
}

// secretsOf returns the secrets to replace in a line of a client, after those found in its request are added. A line
// without a client may have the secrets of any: the function may have given them to an alarm, or to the context of a
// request.
func (r *Recording) secretsOf(c *recordedClient, found *secretTexts) (list []*secretTexts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c != nil {
		if found != nil {
			c.secrets = found
		}
		if !c.secrets.empty() {
			list = append(list, c.secrets)
		}
		return list
	}
	for _, other := range r.clients {
		if !other.secrets.empty() {
			list = append(list, other.secrets)
		}
	}
	return list
}
