//go:build !wasm

package edgerelay

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Handshake is a request to connect, for [Host.Connect]. Every field may be empty.
type Handshake struct {
	Path  string            `json:"path"`
	Query string            `json:"query"`
	Param map[string]string `json:"params"` // placeholders of the route's path
	// User is the user's profile, JSON; empty: an anonymous user.
	User         json.RawMessage   `json:"user"`
	UserKey      string            `json:"user_key"`
	UserName     string            `json:"user_name"`
	Address      string            `json:"address"`
	Header       map[string]string `json:"headers"` // names in lower case
	Subprotocols []string          `json:"subprotocols"`
}

// TestClient is a client of a [Host]. Its exported fields show what the plugin did.
type TestClient struct {
	ID string
	// Accepted is whether the plugin accepted the connection. Otherwise Status is that of HTTP, and Reason is for the log.
	Accepted bool
	Status   int
	Reason   string
	// Frames are all frames that the client got.
	Frames []Frame
	// Attachment and Groups are what the plugin keeps with the connection.
	Attachment string
	Groups     []string
	// Closed is how the connection ended, nil while it is open.
	Closed *Closing
	// Err is the last failure of a hook or of a continuation for this client.
	Err error

	host    *Host
	left    bool
	taken   int
	pending struct{ attachment string }
}

// Frame is a message to a client.
type Frame struct {
	Text   string
	Binary bool
}

// Publication is what a plugin published.
type Publication struct {
	Group   string
	Type    string // empty: Payload is the text that clients get
	Payload string
	Others  bool // whether the client that caused it was left out
}

// effects are what a call did; they happen if it succeeds.
type effects struct {
	list     []func()
	sent     int
	grouped  int
	requests []serviceRequest
}

// Limits of a call.
const (
	maxEffects    = 64
	maxRequests   = 16
	maxAttachment = 16 << 10
	maxContext    = 1024
	maxAuto       = 10
	maxAutoSize   = 2048
	maxReasonSize = 123
)

// codeNoClient is what effects return without a client.
const codeNoClient = int32(ErrNoClient)

func (h *Host) hooks() *Hooks {
	if h.Hooks != nil {
		return h.Hooks
	}
	return &registered
}

// ready runs the setup of the plugin once.
func (h *Host) ready() error {
	if h.started {
		return nil
	}
	h.started = true
	if setup := h.hooks().OnInit; setup != nil {
		return h.Init(setup)
	}
	return nil
}

// Connect asks the plugin to accept a connection, and returns the client.
func (h *Host) Connect(shake Handshake) *TestClient {
	h.connections++
	h.noGroup = false
	c := &TestClient{ID: "client-" + strconv.Itoa(h.connections), host: h}
	if c.Err = h.ready(); c.Err != nil {
		c.Status = 503
		return c
	}
	if len(shake.User) == 0 {
		shake.User = json.RawMessage("null")
	}
	request, err := json.Marshal(struct {
		ID string `json:"id"`
		Handshake
	}{c.ID, shake})
	if err != nil {
		c.Status, c.Err = 503, err
		return c
	}
	h.clients = append(h.clients, c)
	admission, reason := Accept, []byte(nil)
	if hook := h.hooks().OnConnect; hook != nil {
		err = h.effectful("on_connect", c, request, func() error {
			admission = hook(&Connect{Document: Document{Payload: slices.Clone(request)}})
			if reason = kept; admission != Accept {
				return errRejected
			}
			return nil
		})
	}
	switch {
	case err == nil:
		c.Accepted = true
	case !errors.Is(err, errRejected):
		c.Status, c.Err = 503, err
	case admission == AdmissionFailed:
		if c.Status = 503; h.noGroup {
			c.Status = 403
		}
		c.Err = fmt.Errorf("the plugin reported an error: %s", h.lastLine())
	case admission == Reject:
		c.Status = 403
	case admission>>32 != 0:
		c.Status, c.Reason = 403, string(reason)
	case admission >= RejectWith(400) && admission < RejectWith(600):
		c.Status = int(admission - RejectWith(0))
	default:
		c.Status, c.Err = 503, fmt.Errorf("unknown admission %#x", uint64(admission))
	}
	if !c.Accepted {
		c.leave()
	}
	h.settle()
	return c
}

var errRejected = errors.New("rejected")

// Text sends a text message to the plugin. It returns the hook's failure.
func (c *TestClient) Text(text string) error { return c.message(Frame{Text: text}) }

// Binary sends a binary message to the plugin. It returns the hook's failure.
func (c *TestClient) Binary(data []byte) error { return c.message(Frame{string(data), true}) }

func (c *TestClient) message(f Frame) error {
	if !c.Accepted || c.Closed != nil {
		return fmt.Errorf("%s is not connected", c.ID)
	}
	if !f.Binary {
		if answer, ok := c.host.auto[f.Text]; ok {
			c.Frames = append(c.Frames, Frame{Text: answer})
			return nil
		}
	}
	hook := c.host.hooks().OnMessage
	if hook == nil {
		return nil
	}
	payload := []byte(f.Text)
	m := &Message{Document: Document{Payload: slices.Clone(payload)}, Binary: f.Binary}
	err := c.host.effectful("on_message", c, payload, func() error {
		err := hook(&Client{}, m)
		if m.replies && err == nil && c.host.send(Frame{string(m.reply), f.Binary}) != 0 {
			err = errors.New("the reply was refused; text must be UTF-8")
		}
		return err
	})
	c.fail(err)
	c.host.settle()
	return err
}

// Disconnect ends the connection from the client's side.
func (c *TestClient) Disconnect(code int, reason string) error {
	if !c.Accepted || c.Closed != nil {
		return nil
	}
	err := c.end(code, reason)
	c.host.settle()
	return err
}

// end runs on_close.
func (c *TestClient) end(code int, reason string) error {
	c.Closed = &Closing{code, reason}
	c.leave()
	var err error
	if hook := c.host.hooks().OnClose; hook != nil {
		err = c.host.effectful("on_close", c, nil, func() error { return hook(&Client{}, &Closing{code, reason}) })
	}
	c.fail(err)
	return err
}

func (c *TestClient) leave() {
	c.left, c.Groups = true, nil
	c.host.clients = slices.DeleteFunc(c.host.clients, func(other *TestClient) bool { return other == c })
}

func (c *TestClient) fail(err error) {
	if err != nil {
		c.Err = err
	}
}

// Received returns the frames that the client got since the last call of Received.
func (c *TestClient) Received() (texts []string) {
	for _, f := range c.Frames[c.taken:] {
		texts = append(texts, f.Text)
	}
	c.taken = len(c.Frames)
	return texts
}

// effectful calls a hook. Its effects happen if it returns nil.
func (h *Host) effectful(hook string, c *TestClient, document []byte, f func() error) error {
	if c != nil {
		c.pending.attachment = c.Attachment
	}
	var failure error
	h.client = c
	err := h.call(hook, "", document, func() { failure = f() })
	h.client = nil
	if err == nil && failure != ErrNoClient { // that a client has left is no failure
		err = failure
	}
	if err != nil {
		return err
	}
	if c != nil {
		c.Attachment = c.pending.attachment
	}
	h.commit()
	return nil
}

// commit makes the effects of the last call happen, which has succeeded.
func (h *Host) commit() {
	done := h.effects
	h.effects = effects{}
	for _, happen := range done.list {
		happen()
	}
	h.queue = append(h.queue, done.requests...)
}

// later keeps an effect until the hook has succeeded.
func (h *Host) later(f func()) { h.effects.list = append(h.effects.list, f) }

// replaying reports whether the event is of the history: it neither publishes nor makes requests.
func (h *Host) replaying() bool { return h.hook == hookEvent && h.Source == "history" }

func (h *Host) present() bool { return h.client != nil && !h.client.left }

func (h *Host) attach(text string) int32 {
	switch {
	case !h.present():
		return codeNoClient
	case len(text) > maxAttachment:
		return int32(ErrTooLarge)
	}
	h.client.pending.attachment = text
	return 0
}

func (h *Host) send(f Frame) int32 {
	c := h.client
	switch {
	case !h.present():
		return codeNoClient
	case h.effects.sent >= maxEffects:
		return int32(ErrLimit)
	case len(f.Text) > h.limit:
		return int32(ErrTooLarge)
	case !f.Binary && !utf8.ValidString(f.Text):
		return int32(ErrMalformed)
	}
	h.effects.sent++
	h.later(func() { c.Frames = append(c.Frames, f) })
	return 0
}

// allowed checks a group against patterns, of which nil allows all.
func allowed(patterns []string, group string) int32 {
	if !groupName.MatchString(group) {
		return int32(ErrMalformed)
	}
	if patterns != nil && !slices.ContainsFunc(patterns, func(p string) bool { return matches(p, group) }) {
		return int32(ErrNotGranted)
	}
	return 0
}

// matches reports whether a name matches a pattern, in which "*" stands for any run of characters.
func matches(pattern, name string) bool {
	head, tail, starred := strings.Cut(pattern, "*")
	if !starred {
		return name == pattern
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	for i := len(head); i <= len(name); i++ {
		if matches(tail, name[i:]) {
			return true
		}
	}
	return false
}

func (h *Host) subscribe(group string, join bool) int32 {
	if !h.present() {
		return codeNoClient
	}
	if code := allowed(h.Joins, group); code != 0 {
		h.noGroup = h.noGroup || join
		return code
	}
	if h.effects.grouped++; h.effects.grouped > maxEffects {
		return int32(ErrLimit)
	}
	c := h.client
	h.later(func() {
		at := slices.Index(c.Groups, group)
		switch {
		case join && at < 0 && !c.left:
			c.Groups = append(c.Groups, group)
		case !join && at >= 0:
			c.Groups = slices.Delete(c.Groups, at, at+1)
		}
	})
	return 0
}

func (h *Host) publish(p Publication) int32 {
	code := allowed(h.Publishes, p.Group)
	switch {
	case code != 0:
		return code
	case h.hook == hookInit || h.hook == hookClass || h.replaying():
		return codeNoClient
	case len(p.Payload) > h.limit:
		return int32(ErrTooLarge)
	case !utf8.ValidString(p.Payload), p.Type != "" && (!json.Valid([]byte(p.Payload)) || p.Payload[0] != '{'):
		return int32(ErrMalformed)
	}
	from := h.client
	h.later(func() {
		h.Published = append(h.Published, p)
		for _, c := range h.clients {
			if p.Type == "" && slices.Contains(c.Groups, p.Group) && !(p.Others && c == from) {
				c.Frames = append(c.Frames, Frame{Text: p.Payload})
			}
		}
	})
	return 0
}

// Publish sends a text to the clients of a group, as another process may.
func (h *Host) Publish(group, text string) {
	for _, c := range h.clients {
		if slices.Contains(c.Groups, group) {
			c.Frames = append(c.Frames, Frame{Text: text})
		}
	}
}

func (h *Host) closeClient(code int, reason string) int32 {
	if !h.present() {
		return codeNoClient
	}
	valid := slices.Contains([]int{1000, 1008, 1011, 1013}, code) || code >= 3000 && code <= 4999
	if !valid || len(reason) > maxReasonSize || !utf8.ValidString(reason) {
		return int32(ErrMalformed)
	}
	c := h.client
	h.later(func() {
		if c.Closed == nil {
			h.ending = append(h.ending, func() { _ = c.end(code, reason) })
			c.Closed = &Closing{code, reason}
		}
	})
	return 0
}

func (h *Host) autoRespond(request, response string) int32 {
	switch {
	case h.hook != hookInit:
		return int32(ErrMalformed)
	case len(h.auto) >= maxAuto:
		return int32(ErrLimit)
	case len(request) > maxAutoSize || len(response) > maxAutoSize:
		return int32(ErrTooLarge)
	}
	if h.auto == nil {
		h.auto = map[string]string{}
	}
	h.auto[request] = response
	return 0
}
