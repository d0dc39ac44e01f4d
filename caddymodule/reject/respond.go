package reject

import (
	"errors"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Placeholders of a rejected request, for handle_errors, log_append and other handlers of the site.
const (
	placeholderReason  = "http.edgerelay.reason"
	placeholderMessage = "http.edgerelay.message"
)

// Respond answers a request with an error. The server's error routes (handle_errors) run with the placeholders of
// [caddyhttp.Error] and may write a page of the site. Without such a page, the body is message as plain text: Caddy
// would send an empty body and log each rejection of a flood. The response keeps the headers set before. Within an
// error route, no error route runs: the route would run itself.
// See docs/decisions/caddy.md#why-does-the-relay-run-error-routes-itself
func Respond(w http.ResponseWriter, r *http.Request, status int, reason, message string) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(placeholderReason, reason)
		repl.Set(placeholderMessage, message)
	}
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if r.Context().Value(caddyhttp.ErrorCtxKey) != nil || !ok || server.Errors == nil ||
		len(server.Errors.Routes) == 0 {
		http.Error(w, message, status)
		return
	}
	restoreOriginal(r)
	r = server.Errors.WithError(r, caddyhttp.Error(status, errors.New(message)))
	page := &errorPage{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
	// Routes that end without a response have set the status alone.
	none := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	err := server.Errors.Routes.Compile(none).ServeHTTP(page, r)
	switch {
	case page.begun:
	case err != nil, page.status == 0, page.status == status:
		http.Error(w, message, status)
	default:
		page.begin()
	}
}

// errorPage is the response of error routes. The status is written together with the first byte of the body.
type errorPage struct {
	*caddyhttp.ResponseWriterWrapper
	status int
	begun  bool
}

func (p *errorPage) begin() {
	if p.begun {
		return
	}
	p.begun = true
	if p.status != 0 {
		p.ResponseWriter.WriteHeader(p.status)
	}
}

// WriteHeader implements [http.ResponseWriter].
func (p *errorPage) WriteHeader(status int) {
	switch {
	case status < 200:
		p.ResponseWriter.WriteHeader(status)
	case p.status == 0:
		p.status = status
	}
}

// Write implements [http.ResponseWriter].
func (p *errorPage) Write(b []byte) (int, error) {
	p.begin()
	return p.ResponseWriter.Write(b)
}

// ReadFrom implements [io.ReaderFrom].
func (p *errorPage) ReadFrom(r io.Reader) (int64, error) {
	p.begin()
	return p.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError is called by [http.ResponseController].
func (p *errorPage) FlushError() error {
	p.begin()
	return http.NewResponseController(p.ResponseWriter).Flush()
}

// restoreOriginal undoes rewrites, as Caddy does before error routes run.
func restoreOriginal(r *http.Request) {
	sent, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return
	}
	r.Method, r.RemoteAddr, r.RequestURI = sent.Method, sent.RemoteAddr, sent.RequestURI
	if sent.URL != nil && r.URL != nil {
		*r.URL = *sent.URL
	}
}
