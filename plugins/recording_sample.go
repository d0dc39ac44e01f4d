package plugins

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// setDecision sets the expectations of the sample of a recorded call.
func (rec *callRecord) setDecision(attachment []byte, made *effects, err error) {
	s, f := &rec.sample, &rec.function
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		s.Verdict, s.Reason, f.WantStatus = Deny.String(), refused.Reason, refused.Status
		return
	case err != nil:
		s.Verdict = verdictError
		return
	case s.Hook == OnConnect:
		s.Verdict = Allow.String()
	default:
		s.Verdict = Pass.String()
	}
	f.Effects = []json.RawMessage{}
	for _, e := range made.list() {
		f.Effects = append(f.Effects, json.RawMessage(e))
	}
	if f.Client == "" {
		return
	}
	if made != nil && made.attached {
		attachment = made.attachment
	}
	f.setWantAttachment(attachment)
}

// setExact sets a payload that is read back byte by byte.
func (s *Sample) setExact(b []byte) {
	switch {
	case !utf8.Valid(b):
		s.Function.Binary = append([]byte{}, b...)
	case json.Valid(b) && len(bytes.TrimSpace(b)) == len(b) && !bytes.ContainsAny(b, "\r\n"):
		s.Payload = bytes.Clone(b)
	default:
		text := string(b)
		s.Text = &text
	}
}

// setAttachment sets the attachment before the call.
func (f *FunctionSample) setAttachment(b []byte) {
	if utf8.Valid(b) {
		text := string(b)
		f.Attachment = &text
		return
	}
	f.AttachmentBinary = bytes.Clone(b)
}

// setWantAttachment sets the attachment after the call.
func (f *FunctionSample) setWantAttachment(b []byte) {
	if utf8.Valid(b) {
		text := string(b)
		f.WantAttachment = &text
		return
	}
	f.WantAttachmentBinary = bytes.Clone(b)
}

// setContext sets the context of an answer as it travels.
func (f *FunctionSample) setContext(b []byte) {
	then, context, named := bytes.Cut(b, []byte{0})
	switch {
	case !utf8.Valid(b):
		f.ContextBinary = bytes.Clone(b)
	case named && len(then) > 0:
		f.Then, f.Context = string(then), string(context)
	default:
		f.Context = string(b)
	}
}

// sampleLine is a line of JSON that grows by members.
type sampleLine []byte

func (l *sampleLine) name(name string) {
	if len(*l) > 0 {
		*l = append(*l, ',')
	}
	*l = append(appendJSON(*l, name), ':')
}

// text appends a member unless it is empty.
func (l *sampleLine) text(name, value string) {
	if value != "" {
		l.name(name)
		*l = appendJSON(*l, value)
	}
}

func (l *sampleLine) pointer(name string, value *string) {
	if value != nil {
		l.name(name)
		*l = appendJSON(*l, *value)
	}
}

// raw appends a member that is JSON.
func (l *sampleLine) raw(name string, value []byte) {
	if value != nil {
		l.name(name)
		*l = append(*l, value...)
	}
}

func (l *sampleLine) binary(name string, value []byte) {
	if value != nil {
		l.name(name)
		*l = appendJSON(*l, base64.StdEncoding.EncodeToString(value))
	}
}

func (l *sampleLine) number(name string, value int64) {
	if value != 0 {
		l.name(name)
		*l = strconv.AppendInt(*l, value, 10)
	}
}

// AppendSample appends the sample of a function's hook as JSON in a line, which [ParseSample] reads.
func AppendSample(dst []byte, s *Sample) []byte {
	l := sampleLine{}
	f := s.Function
	if f == nil {
		f = &FunctionSample{}
	}
	l.text("hook", s.hook().String())
	l.text("client", f.Client)
	if !s.Clock.IsZero() {
		l.text("clock", s.Clock.UTC().Format(time.RFC3339Nano))
	}
	l.appendInput(s, f)
	l.appendExpectations(s, f)
	return append(append(append(dst, '{'), l...), '}')
}

func (l *sampleLine) appendInput(s *Sample, f *FunctionSample) {
	l.pointer("attachment", f.Attachment)
	l.binary("attachment_binary", f.AttachmentBinary)
	l.raw("request", f.Request)
	l.raw("payload", s.Payload)
	l.pointer("text", s.Text)
	l.binary("binary", f.Binary)
	l.text("name", f.Name)
	if f.Code != nil {
		l.name("code")
		*l = strconv.AppendInt(*l, int64(*f.Code), 10)
	}
	l.number("token", f.Token)
	l.text("then", f.Then)
	l.text("context", f.Context)
	l.binary("context_binary", f.ContextBinary)
	l.number("status", int64(f.Status))
	l.binary("random", f.Random)
}

func (l *sampleLine) appendExpectations(s *Sample, f *FunctionSample) {
	l.text("verdict", s.Verdict)
	l.number("want_status", int64(f.WantStatus))
	l.text("reason", s.Reason)
	if f.Effects != nil {
		l.name("effects")
		*l = append(append(append(*l, '['), bytes.Join(rawTexts(f.Effects), []byte{','})...), ']')
	}
	if len(f.Tokens) > 0 {
		l.name("tokens")
		list, _ := json.Marshal(f.Tokens) // numbers
		*l = append(*l, list...)
	}
	l.pointer("want_attachment", f.WantAttachment)
	l.binary("want_attachment_binary", f.WantAttachmentBinary)
}

func rawTexts(list []json.RawMessage) (texts [][]byte) {
	for _, v := range list {
		texts = append(texts, v)
	}
	return texts
}
