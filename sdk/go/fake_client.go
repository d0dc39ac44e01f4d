//go:build !wasm

package edgerelay

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// TestClient is a client of a [Host]. Its exported fields show the effects of the plugin.
type TestClient struct {
	ID string
	// Accepted is whether the plugin accepted the connection. Otherwise Status is that of HTTP, and Reason is for the log.
	Accepted bool
	Status   int
	Reason   string
	// Frames are all frames that the client got.
	Frames []Frame
	// Attachment and Groups are the state that the plugin keeps with the connection.
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

// Publication is a message that a plugin published.
type Publication struct {
	Group   string
	Type    string // empty: Payload is the text that clients get
	Payload string
	Others  bool // whether the client that caused it was left out
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

// codeNoClient is the result of effects without a client.
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
