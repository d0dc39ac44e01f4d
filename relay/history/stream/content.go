package stream

import "errors"

// Content is the content of an event.
type Content struct {
	// Type and Sender are those of [relay.Event].
	Type, Sender string
	Text         []byte
}

// ErrContent is the error for bytes that are not the form of a [Content].
var ErrContent = errors.New("not the content of an event")

// IsText reports whether the content is a text without a type and a sender, which is kept as it is.
func (c *Content) IsText() bool { return c.Type == "" && c.Sender == "" }

// Append appends the content: the type and the sender, each with a byte for its length before it, and the text.
func (c *Content) Append(dst []byte) ([]byte, error) {
	if len(c.Type) > 255 || len(c.Sender) > 255 {
		return dst, errors.New("the type or the sender is longer than 255 bytes")
	}
	dst = append(append(dst, byte(len(c.Type))), c.Type...)
	dst = append(append(dst, byte(len(c.Sender))), c.Sender...)
	return append(dst, c.Text...), nil
}

// DecodeContent reads a content. The text is a part of b, and not empty.
func DecodeContent(b []byte) (c Content, err error) {
	for _, field := range []*string{&c.Type, &c.Sender} {
		if len(b) == 0 || len(b)-1 < int(b[0]) {
			return Content{}, ErrContent
		}
		n := int(b[0])
		*field, b = string(b[1:1+n]), b[1+n:]
	}
	if len(b) == 0 || c.IsText() {
		return Content{}, ErrContent
	}
	c.Text = b
	return c, nil
}
