package publish

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
)

const (
	// maxType and maxID are the greatest lengths of a type and of an idempotency key, in bytes.
	maxType = 100
	maxID   = 200
)

// publication is one message of a request.
type publication struct {
	// message has no group.
	message relay.Message
	// groups get the message, each once.
	groups []string
	// pointer is the place in the body, as a JSON pointer, and grouped tells that the groups are a list.
	pointer string
	grouped bool
	// id is the idempotency key of the message; empty without one.
	id string
	// grip tells that the message is an item of a GRIP publication.
	grip bool
	// channel is the channel of such an item.
	channel string
}

// groupPointer returns the place of a group in the body.
func (p *publication) groupPointer(i int) string {
	switch {
	case p.grip:
		return p.pointer + "/channel"
	case p.grouped:
		return p.pointer + "/groups/" + strconv.Itoa(i)
	}
	return p.pointer + "/group"
}

// form is the form of a body.
type form uint8

const (
	formMessage form = iota
	formBatch
	formGRIP
)

// parser reads a body.
type parser struct {
	*scanner
	// most is the greatest number of publications: messages times groups.
	most, count int
}

// tooManyError reports that a body has more publications than the endpoint allows.
type tooManyError struct{ limit int }

func (e tooManyError) Error() string {
	return fmt.Sprintf("more than %d publications in one request, counted by message and group; send several requests",
		e.limit)
}

// parse reads a body of at most most publications. The messages of a GRIP publication are left to the caller. The
// result refers to the body.
func parse(body []byte, most int) ([]publication, form, error) {
	s, err := newScanner(body)
	if err != nil {
		return nil, formMessage, err
	}
	if s.peek() != '{' {
		return nil, formMessage, faultf("the body must be a JSON object")
	}
	p := &parser{scanner: s, most: most}
	single := newDraft("")
	var batch []publication
	kind, other := formMessage, ""
	err = p.object(func(name string) error {
		switch name {
		case "messages":
			kind = formBatch
			return p.messages(&batch)
		case "items":
			kind = formGRIP
			return p.skip()
		}
		other = name
		return p.member(single, name)
	})
	if err == nil {
		err = p.end()
	}
	switch {
	case err != nil:
		return nil, kind, err
	case kind == formGRIP:
		return nil, kind, nil
	case kind == formBatch && other != "":
		return nil, kind, within(other, faultf("the member does not belong beside messages; move it into the messages"))
	case kind == formBatch:
		return batch, kind, nil
	}
	message, err := single.finish()
	return []publication{message}, kind, err
}

// messages reads the list of a batch.
func (p *parser) messages(to *[]publication) error {
	if p.peek() != '[' {
		return faultf("messages must be a list")
	}
	err := p.list(func(i int) error {
		if p.peek() != '{' {
			return faultf("a message must be an object")
		}
		d := newDraft("/messages/" + strconv.Itoa(i))
		if err := p.object(func(name string) error { return p.member(d, name) }); err != nil {
			return err
		}
		m, err := d.finish()
		*to = append(*to, m)
		return err
	})
	if err == nil && len(*to) == 0 {
		return faultf("messages must have at least one message")
	}
	return err
}

// draft is a message of which not all members are read.
type draft struct {
	publication
	// given are the names of the members that were read.
	given []string
}

func (d *draft) has(name string) bool { return slices.Contains(d.given, name) }

func newDraft(pointer string) *draft {
	return &draft{publication: publication{pointer: pointer}, given: make([]string, 0, 4)}
}

// member reads a member of a message.
func (p *parser) member(d *draft, name string) (err error) {
	d.given = append(d.given, name)
	switch name {
	case "group":
		var group string
		if group, err = p.group(); err == nil {
			d.groups = append(d.groups, group)
		}
		return err
	case "groups":
		d.grouped = true
		return p.groupList(d)
	case "type":
		if d.message.Type, err = p.text(); err == nil {
			err = checkType(d.message.Type)
		}
		return err
	case "data":
		if p.peek() != '{' {
			return faultf("data must be an object, whose members are those of the message")
		}
		d.message.Text, err = p.raw()
		return err
	case "text":
		var text string
		text, err = p.text()
		d.message.Text = []byte(text)
		return err
	case "binary":
		return p.names(&d.message.Binary)
	case "id":
		if d.id, err = p.text(); err == nil {
			err = checkID(d.id)
		}
		return err
	}
	return faultf("unknown member; a message has group or groups, type and data, or text, and also id and binary")
}

func (p *parser) group() (string, error) {
	if p.count++; p.count > p.most {
		return "", tooManyError{p.most}
	}
	name, err := p.text()
	if err == nil {
		if err := relay.CheckGroup(name); err != nil {
			return "", faultf("%v", err)
		}
	}
	return name, err
}

func (p *parser) groupList(d *draft) error {
	if p.peek() != '[' {
		return faultf("groups must be a list of names")
	}
	var seen nameSet
	err := p.list(func(int) error {
		name, err := p.group()
		if err == nil && !seen.add(name) {
			err = faultf("the group is given twice")
		}
		d.groups = append(d.groups, name)
		return err
	})
	if err == nil && len(d.groups) == 0 {
		return faultf("groups must have at least one name")
	}
	return err
}

// names reads a list of strings.
func (p *parser) names(to *[]string) error {
	if p.peek() != '[' {
		return faultf("expected a list of names")
	}
	return p.list(func(int) error {
		name, err := p.text()
		*to = append(*to, name)
		return err
	})
}

// finish checks that the members of the message fit together.
func (d *draft) finish() (publication, error) {
	m := &d.message
	switch {
	case d.has("group") && d.has("groups"):
		return d.publication, within("groups", faultf("group and groups are both given; use one"))
	case len(d.groups) == 0:
		return d.publication, faultf(`the message has no group; add "group": "<name>"`)
	case d.has("text") && (d.has("type") || d.has("data")):
		return d.publication, within("text", faultf("text is for messages without type and data; use data"))
	case d.has("text") && d.has("binary"):
		return d.publication, within("binary", faultf("text has no members; use type and data"))
	case d.has("text"):
		return d.publication, nil
	case m.Type == "":
		return d.publication, faultf(`the message has neither type nor text; add "type": "<type>" or "text": "…"`)
	case m.Text == nil:
		m.Text = []byte("{}")
	}
	return d.publication, d.checkData()
}

// checkData checks the members of data against type and binary.
func (d *draft) checkData() error {
	missing := slices.Clone(d.message.Binary)
	s := &scanner{b: d.message.Text}
	err := s.object(func(name string) error {
		value, err := s.raw()
		if err != nil {
			return err
		}
		switch {
		case name == "type" && !bytes.Equal(value, []byte(`"`+d.message.Type+`"`)):
			return faultf("the member differs from the message's type; remove it")
		case name == relay.SenderMember || strings.HasPrefix(name, "__asgi_"):
			return faultf("the name is reserved; choose another one")
		}
		if i := slices.Index(missing, name); i >= 0 {
			missing = slices.DeleteFunc(missing, func(n string) bool { return n == name })
			return checkBase64(value)
		}
		return nil
	})
	if err != nil {
		return within("data", err)
	}
	if len(missing) > 0 {
		return within("binary", faultf("data has no member %q", missing[0]))
	}
	return nil
}

// checkBase64 returns an error unless a JSON value is a string with base64.
func checkBase64(value []byte) error {
	s := &scanner{b: value}
	text, err := s.text()
	if err == nil {
		_, err = base64.StdEncoding.DecodeString(text)
	}
	if err != nil {
		return faultf("a binary member must be a string with base64 (RFC 4648, section 4, with padding)")
	}
	return nil
}

// checkType returns an error unless Channels can dispatch messages of a type.
func checkType(kind string) error {
	if kind == "internal.message" {
		return faultf(`messages of the type internal.message are written "text": "…"`)
	}
	if err := (&relay.Message{Type: kind}).CheckType(); err != nil {
		return faultf("%v", err)
	}
	if len(kind) > maxType {
		return faultf("a type has 1 to %d characters", maxType)
	}
	for _, c := range []byte(kind) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return faultf("a type consists of ASCII letters, digits, '.', '_' and '-'")
		}
	}
	return nil
}

// checkID returns an error unless text can be an idempotency key.
func checkID(text string) error {
	if text == "" || len(text) > maxID {
		return faultf("an idempotency key has 1 to %d characters", maxID)
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return faultf("an idempotency key consists of printable ASCII characters without spaces")
		}
	}
	return nil
}
