package admin

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// Publication is the body of POST /edgerelay/publish.
type Publication struct {
	// Group is the full group name.
	Group string `json:"group"`
	// Type is the message type, such as chat.message; empty for internal.message.
	Type string `json:"type"`
	// Data is the payload. Clients receive the text unchanged, white space included. With a Type, Data is an object with
	// the other members of the message.
	Data json.RawMessage `json:"data"`
	// Binary names the members of Data that are base64, and that emitters would send as bytes.
	Binary []string `json:"binary"`
}

// MaxPublicationBytes is the longest body of a publish request.
const MaxPublicationBytes = 16 << 20

func servePublish(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	receipt, status, err := Publish(n, http.MaxBytesReader(w, r.Body, MaxPublicationBytes), r)
	if err != nil {
		return caddy.APIError{HTTPStatus: status, Err: err}
	}
	return WriteJSON(w, receipt)
}

// Publish reads a publication from body and publishes it through the node's channel layer. With an error comes the HTTP
// status of the response.
func Publish(n *node.Node, body io.Reader, r *http.Request) (receipt Receipt, status int, err error) {
	p, status, err := ReadPublication(body)
	if err != nil {
		return receipt, status, err
	}
	published, err := n.Hub.PublishMessage(r.Context(), relay.Message{
		Group: p.Group, Type: p.Type, Text: p.Data, Binary: p.Binary,
	})
	switch {
	case errors.Is(err, relay.ErrInvalidMessage):
		return receipt, http.StatusBadRequest, err
	case err != nil:
		return receipt, http.StatusBadGateway, err
	}
	return Receipt(published), http.StatusOK, nil
}

// ReadPublication reads and checks the body of a publish request. With an error comes the HTTP status of the response.
func ReadPublication(body io.Reader) (p Publication, status int, err error) {
	dec := json.NewDecoder(body)
	err = dec.Decode(&p)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("unexpected data after the object")
	}
	if errors.As(err, new(*http.MaxBytesError)) {
		return p, http.StatusRequestEntityTooLarge, fmt.Errorf("body longer than %d bytes", MaxPublicationBytes)
	}
	if err != nil {
		return p, http.StatusBadRequest,
			fmt.Errorf(`invalid body; use {"group": "…", "data": <JSON>}, with a type if the message has one: %w`, err)
	}
	if err := relay.CheckGroup(p.Group); err != nil {
		return p, http.StatusBadRequest, err
	}
	if p.Data == nil {
		return p, http.StatusBadRequest, errors.New("no data to publish; set data to any JSON value")
	}
	if !utf8.Valid(p.Data) {
		return p, http.StatusBadRequest, errors.New("data is not UTF-8")
	}
	if p.Type == "" && len(p.Binary) > 0 {
		return p, http.StatusBadRequest, errors.New("binary is for messages with a type; add the type")
	}
	if err := p.checkBinary(); err != nil {
		return p, http.StatusBadRequest, err
	}
	return p, http.StatusOK, nil
}

// checkBinary returns an error unless the members that are to be bytes hold base64.
func (p *Publication) checkBinary() error {
	if len(p.Binary) == 0 {
		return nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(p.Data, &members); err != nil {
		return errors.New("data of a message with a type is an object with the message's other members")
	}
	for _, name := range p.Binary {
		value, ok := members[name]
		if !ok {
			return fmt.Errorf("binary: data has no member %q", name)
		}
		var text string
		err := json.Unmarshal(value, &text)
		if err == nil {
			_, err = base64.StdEncoding.DecodeString(text)
		}
		if err != nil || string(value) == "null" {
			return fmt.Errorf("binary: the member %q is no string with base64 (RFC 4648, section 4, with padding)", name)
		}
	}
	return nil
}
