// Package webhook calls a URL of the site about presence: POST requests with batches of events in JSON, signed with a
// key that the site knows. docs/presence.md describes requests and responses.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/edgerelay/edgerelay/relay/presence"
)

// SignatureHeader is the header with the signature of a request: "t=<Unix time>,v1=<hex>", where v1 is the HMAC-SHA256
// of the time, a full stop and the body.
const SignatureHeader = "Edgerelay-Signature"

// maxResponse is the part of a response that is read, so that the connection can be used again.
const maxResponse = 64 << 10

// Hook is a webhook. It implements [presence.Webhook]. Methods may be called concurrently.
type Hook struct {
	id, url string
	key     []byte
	client  http.Client
	now     func() time.Time
}

// New returns a webhook that calls url. key signs the requests; without a key, they are not signed. transport sends
// them; nil is a transport of the webhook's own.
func New(url, key string, transport http.RoundTripper) *Hook {
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: 5 * time.Second,
		}
	}
	sum := sha256.Sum256([]byte(url))
	return &Hook{
		id: hex.EncodeToString(sum[:8]), url: url, key: []byte(key), now: time.Now,
		client: http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// ID implements [presence.Webhook]: a hash of the URL.
func (h *Hook) ID() string { return h.id }

// URL returns the URL.
func (h *Hook) URL() string { return h.url }

// Close ends unused connections.
func (h *Hook) Close() { h.client.CloseIdleConnections() }

// event is an event of a request.
type event struct {
	ID    string          `json:"id"`
	Type  string          `json:"type"`
	Group string          `json:"group"`
	User  json.RawMessage `json:"user"`
	Info  json.RawMessage `json:"info"`
	Count int             `json:"count"`
	Time  time.Time       `json:"time"`
}

// Send implements [presence.Webhook]. Every status from 200 to 299 is success.
func (h *Hook) Send(ctx context.Context, calls []presence.Call) error {
	events := make([]event, len(calls))
	for i, c := range calls {
		events[i] = event{c.ID, c.Type, c.Group, rawOr(c.User, "null"), rawOr(c.Info, "{}"), c.Count, c.Time.UTC()}
	}
	return h.post(ctx, events)
}

// Ping sends a request without events.
func (h *Hook) Ping(ctx context.Context) error { return h.post(ctx, []event{}) }

// rawOr returns JSON, or a replacement for a text that is none.
func rawOr(text, replacement string) json.RawMessage {
	if !json.Valid([]byte(text)) {
		return json.RawMessage(replacement)
	}
	return json.RawMessage(text)
}

func (h *Hook) post(ctx context.Context, events []event) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(struct {
		Events []event `json:"events"`
	}{events}); err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, &body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "edgerelay")
	if len(h.key) > 0 {
		r.Header.Set(SignatureHeader, Sign(h.key, h.now(), body.Bytes()))
	}
	resp, err := h.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxResponse))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the site responds with status %d; it must respond with 200 to 299", resp.StatusCode)
	}
	return nil
}

// Sign returns the value of [SignatureHeader] for a body.
func Sign(key []byte, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(t + "."))
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

var _ presence.Webhook = (*Hook)(nil)
