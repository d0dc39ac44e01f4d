package caddymodule

import (
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/edgerelay/edgerelay/relay/protocol/webhttp"
)

// holdWriter passes a response on, unless its headers have an instruction to hold it. It then keeps the response.
type holdWriter struct {
	*caddyhttp.ResponseWriterWrapper
	begun, held, tooLong bool
	status               int
	body                 []byte
}

func newHoldWriter(w http.ResponseWriter) *holdWriter {
	return &holdWriter{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
}

// WriteHeader implements [http.ResponseWriter].
func (w *holdWriter) WriteHeader(status int) {
	switch {
	case w.begun:
		return
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		w.ResponseWriterWrapper.WriteHeader(status)
		return
	}
	w.begun = true
	if status != http.StatusSwitchingProtocols && webhttp.HasInstruct(w.Header()) {
		w.held, w.status = true, status
		return
	}
	webhttp.StripGrip(w.Header())
	w.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *holdWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if !w.held {
		return w.ResponseWriterWrapper.Write(b)
	}
	if w.tooLong = w.tooLong || len(w.body)+len(b) > webhttp.MaxHeldResponse; !w.tooLong {
		w.body = append(w.body, b...)
	}
	return len(b), nil
}

// ReadFrom implements [io.ReaderFrom]: the copy of a response that is not held may bypass this process.
func (w *holdWriter) ReadFrom(r io.Reader) (int64, error) {
	w.WriteHeader(http.StatusOK)
	if w.held {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError implements the interface of [http.ResponseController].
func (w *holdWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	if w.held {
		return nil
	}
	return http.NewResponseController(w.ResponseWriterWrapper.ResponseWriter).Flush()
}

// headBody keeps the beginning of a request's body that the next handler reads.
type headBody struct {
	io.ReadCloser
	kept  []byte
	limit int
	over  bool // longer than limit
	ended bool
}

// whole reports whether the kept bytes are the body, of a length that is negative if it is unknown.
func (b *headBody) whole(length int64) bool {
	return !b.over && (b.ended || length >= 0 && int64(len(b.kept)) == length)
}

// Read implements [io.Reader].
func (b *headBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	if b.over = b.over || len(b.kept)+n > b.limit; b.over {
		b.kept = nil
	} else {
		b.kept = append(b.kept, p[:n]...)
	}
	return n, err
}
