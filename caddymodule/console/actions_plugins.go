package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// adminHandler is a handler of the admin API.
type adminHandler func(*node.Node, http.ResponseWriter, *http.Request) error

// adminRequest returns the request that the admin API gets: the object as the path's name, the operator as the author,
// and none but the given parameters.
func adminRequest(r *http.Request, id relay.Identity, name string, q url.Values) *http.Request {
	r = admin.WithAuthor(r.Clone(r.Context()), authorOf(id))
	r.SetPathValue("name", name)
	r.URL = &url.URL{Path: r.URL.Path, RawQuery: q.Encode()}
	return r
}

// pluginRequest is the body of an action on a plugin.
type pluginRequest struct {
	Plugin  string `json:"plugin"`
	Message string `json:"message"`
	// Hash is the module that the operator has seen. If another one runs, the action fails.
	Hash string `json:"hash"`
	// Candidate is that of the canary that the operator has seen, or "none". If another one runs, the action fails.
	Candidate string `json:"candidate"`
	// To is the version to return to, Share the share of the groups that a canary gets.
	To    uint64 `json:"to"`
	Share string `json:"share"`
}

var errNoPlugin = errors.New("plugin is missing; set the plugin's name")

// pluginAction returns the action that a handler of the admin API carries out.
func pluginAction(serve adminHandler) func(*Handler, http.ResponseWriter, *http.Request, relay.Identity) (outcome, error) {
	return func(h *Handler, w http.ResponseWriter, r *http.Request, id relay.Identity) (o outcome, err error) {
		var body pluginRequest
		if err := readBody(w, r, &body); err != nil {
			return o, err
		}
		if body.Plugin == "" {
			return o, badRequest(errNoPlugin)
		}
		o.object = "plugin " + body.Plugin
		q := url.Values{}
		if body.Message != "" {
			q.Set("message", body.Message)
		}
		if body.To != 0 {
			q.Set("to", strconv.FormatUint(body.To, 10))
			o.object += fmt.Sprintf(", version %d", body.To)
		}
		if body.Share != "" {
			q.Set("share", body.Share)
			o.object += ", share " + body.Share
		}
		forward := adminRequest(r, id, body.Plugin, q)
		expect(forward, body.Hash)
		forward = admin.WithCandidate(forward, body.Candidate)
		o.result = "done"
		return o, serve(h.node, w, forward)
	}
}

// expect makes a change conditional on the module that runs.
func expect(r *http.Request, hash string) {
	r.Header.Del("If-Match")
	if hash != "" {
		r.Header.Set("If-Match", strconv.Quote(hash))
	}
}

// uploadTimeout bounds the time for the bytes of a module.
const uploadTimeout = time.Minute

// deploy deploys the module in the body, to a share of the groups if the parameter canary is set.
func (h *Handler) deploy(w http.ResponseWriter, r *http.Request, id relay.Identity) (o outcome, err error) {
	in, q := r.URL.Query(), url.Values{}
	for _, name := range []string{"message", "canary"} {
		if in.Get(name) != "" {
			q.Set(name, in.Get(name))
		}
	}
	if in.Get("plugin") == "" {
		return o, badRequest(errNoPlugin)
	}
	if o.object = "plugin " + in.Get("plugin"); q.Has("canary") {
		o.object += ", canary " + q.Get("canary")
	}
	upload := &limitsOf(h.node).upload
	if !upload.TryLock() {
		return o, caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("another upload is in progress; try again")}
	}
	defer upload.Unlock()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadTimeout)) // HTTP/3 has none
	forward := adminRequest(r, id, in.Get("plugin"), q)
	expect(forward, in.Get("hash"))
	o.result = "deployed"
	return o, admin.ServeDeploy(h.node, w, forward)
}

// replay tells the clients of a group that they may have missed events. The answer describes the group's history, so
// the operator must be one who may see it.
func (h *Handler) replay(w http.ResponseWriter, r *http.Request, id relay.Identity) (o outcome, err error) {
	var body struct {
		Group string `json:"group"`
		Since string `json:"since"`
	}
	if err := readBody(w, r, &body); err != nil {
		return o, err
	}
	o = outcome{object: "group " + body.Group + " since " + body.Since, result: "announced"}
	if err := h.authorizeGroup(r.Context(), id, body.Group); err != nil {
		return o, err
	}
	forward := adminRequest(r, id, body.Group, url.Values{"since": {body.Since}})
	return o, admin.ServeReplay(h.node, w, forward)
}
