package console

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/admin"
	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/relay"
)

// actionsPath begins the paths of actions, below the console's.
const actionsPath = "actions/"

// action is a change that an actor may make. It writes the response unless it fails.
type action struct {
	run func(h *Handler, w http.ResponseWriter, r *http.Request, id relay.Identity) (outcome, error)
	// uploads tells that the action needs the setting uploads, and that the body is no JSON.
	uploads bool
	// pulls tells that the action needs the setting registries.
	pulls bool
}

// outcome describes an action for the audit log.
type outcome struct{ object, result string }

// actions are the actions by name. The engine's part of each is that of the admin API.
var actions = map[string]action{
	"close":    {run: (*Handler).closeConnections},
	"drain":    {run: (*Handler).drain},
	"undrain":  {run: (*Handler).cancelDrain},
	"replay":   {run: (*Handler).replay},
	"deploy":   {run: (*Handler).deploy, uploads: true},
	"pull":     {run: (*Handler).deployReference, pulls: true},
	"rollback": {run: pluginAction(admin.ServeRollback)},
	"undeploy": {run: pluginAction(admin.ServeUndeploy)},
	"promote":  {run: pluginAction(admin.ServePromote)},
	"canary":   {run: pluginAction(admin.ServeResizeCanary)},
}

// serveAction checks a request for an action, carries it out and logs it.
func (h *Handler) serveAction(w http.ResponseWriter, r *http.Request, name string, a action) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		(&refusal{http.StatusMethodNotAllowed, "method", "use POST"}).respond(w, r)
		return
	}
	id, refused := h.actor(r, a)
	if refused != nil {
		h.auditRefusal(r, id, name, refused)
		refused.respond(w, r)
		return
	}
	o, err := a.run(h, w, r, id)
	admin.ForgetOverview(h.node)
	h.audit(r, id, name, o, err)
	answer(w, r, err)
}

// actor authenticates a request for an action, and refuses it unless all conditions are met.
func (h *Handler) actor(r *http.Request, a action) (id relay.Identity, f *refusal) {
	if f = checkSource(r); f != nil {
		return id, f
	}
	if f = h.checkHost(r); f != nil {
		return id, f
	}
	if id, f = h.operator(r); f != nil {
		return id, f
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case !h.Actions:
		return id, &refusal{http.StatusForbidden, "actions_off", "actions are off; an administrator can set 'actions on'"}
	case !h.mayAct(id):
		return id, &refusal{http.StatusForbidden, "not_actor", "you may look, but not act; an administrator can add you to actors"}
	case !tokensOf(h.node).valid(r, id, time.Now()):
		return id, &refusal{
			http.StatusForbidden, "token",
			"the token is invalid: it has expired, your login has changed, or another node has answered; try again",
		}
	case a.uploads && !h.Uploads:
		return id, &refusal{http.StatusForbidden, "uploads_off", "uploads are off; an administrator can set 'uploads on'"}
	case a.pulls && len(h.registries) == 0:
		return id, &refusal{
			http.StatusForbidden, "registries_off",
			"no registry is allowed; an administrator can set 'registries <prefix>'",
		}
	case !a.uploads && kind != "application/json":
		return id, &refusal{http.StatusUnsupportedMediaType, "content_type", "use Content-Type: application/json"}
	case !limitsOf(h.node).actions.take(time.Now()):
		return id, &refusal{http.StatusTooManyRequests, "rate", "too many actions; wait a minute"}
	}
	return id, nil
}

// limits bound the work of the consoles of a node.
type limits struct {
	actions minute
	upload  sync.Mutex
	// reads has an element for each read of a history.
	reads chan struct{}
}

// limitsOf returns the limits of a node, which survive reloads.
func limitsOf(n *node.Node) *limits {
	type key struct{}
	return n.Extension(key{}, func() any { return &limits{reads: make(chan struct{}, maxHistoryReads)} }).(*limits)
}

// maxActionBody is the longest body of an action without an upload, in bytes.
const maxActionBody = 16 << 10

// readBody decodes the body of an action. Unknown members are errors: a filter with a typing error would match more.
func readBody(w http.ResponseWriter, r *http.Request, to any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxActionBody))
	if err == nil {
		err = caddy.StrictUnmarshalJSON(b, to)
	}
	if err != nil {
		return badRequest(fmt.Errorf("invalid body: %w", err))
	}
	return nil
}

func badRequest(err error) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
}

// closeConnections closes a connection, or all of a user or of a group.
func (h *Handler) closeConnections(w http.ResponseWriter, r *http.Request, _ relay.Identity) (o outcome, err error) {
	var body struct {
		ID    uint32 `json:"id"`
		User  string `json:"user"`
		Group string `json:"group"`
	}
	if err := readBody(w, r, &body); err != nil {
		return o, err
	}
	switch { // one at a time, as the dialog says
	case body.ID != 0 && body.User == "" && body.Group == "":
		o.object = fmt.Sprintf("connection %d", body.ID)
	case body.ID == 0 && body.User != "" && body.Group == "":
		o.object = "user " + body.User
	case body.ID == 0 && body.User == "" && body.Group != "":
		o.object = "group " + body.Group
	default:
		return o, badRequest(errors.New("set one of id, user and group"))
	}
	c := admin.DefaultCloseRequest()
	c.ID, c.User, c.Group = body.ID, body.User, body.Group
	report, err := admin.CloseConnections(h.node, c)
	if err != nil {
		return o, err
	}
	o.result = fmt.Sprintf("%d closed", report.Closed)
	return o, admin.WriteJSON(w, report)
}

// drain starts a drain.
func (h *Handler) drain(w http.ResponseWriter, r *http.Request, _ relay.Identity) (outcome, error) {
	o := outcome{object: "node"}
	var pace node.Drain
	if err := readBody(w, r, &pace); err != nil {
		return o, err
	}
	if status, err := admin.StartDrain(h.node, pace); err != nil {
		return o, caddy.APIError{HTTPStatus: status, Err: err}
	}
	s := admin.DrainStatus(h.node.Hub.DrainStatus())
	o.result = fmt.Sprintf("%d to evict by %s", s.Open, s.Ends.UTC().Format(time.RFC3339))
	return o, admin.WriteJSON(w, s)
}

// cancelDrain cancels the drain.
func (h *Handler) cancelDrain(w http.ResponseWriter, r *http.Request, _ relay.Identity) (outcome, error) {
	o := outcome{object: "node"}
	if err := readBody(w, r, &struct{}{}); err != nil {
		return o, err
	}
	if status, err := admin.CancelDrain(h.node); err != nil {
		return o, caddy.APIError{HTTPStatus: status, Err: err}
	}
	s := admin.DrainStatus(h.node.Hub.DrainStatus())
	o.result = fmt.Sprintf("canceled after %d of %d", s.Evicted, s.Clients)
	return o, admin.WriteJSON(w, s)
}
