package caddymodule

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Placeholders of a refused request, for handle_errors, log_append and other handlers around ours.
const (
	placeholderReason  = "http.edgerelay.reason"
	placeholderMessage = "http.edgerelay.message"
)

// refuse answers a request with an error. Where the server has error routes (handle_errors), they run with the placeholders of
// [caddyhttp.Error] and may write a page of the site. Without a route that matches, the body is message as plain text: Caddy
// itself would send none, and would log each refusal of a flood. Headers that are set before are kept.
func refuse(w http.ResponseWriter, r *http.Request, status int, reason, message string) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(placeholderReason, reason)
		repl.Set(placeholderMessage, message)
	}
	plain := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		http.Error(w, message, status)
		return nil
	})
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.Errors == nil || len(server.Errors.Routes) == 0 {
		_ = plain(w, r)
		return
	}
	restoreOriginal(r)
	r = server.Errors.WithError(r, caddyhttp.Error(status, errors.New(message)))
	if err := server.Errors.Routes.Compile(plain).ServeHTTP(w, r); err != nil {
		w.WriteHeader(status) // as Caddy does when an error route fails
	}
}

// restoreOriginal undoes rewrites, as Caddy does before it runs error routes.
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
