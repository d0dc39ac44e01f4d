package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
	"github.com/edgerelay/edgerelay/plugins"
)

// servePlugins lists the plugins in the order of the pipeline.
func servePlugins(n *node.Node, w http.ResponseWriter, _ *http.Request) error {
	list := []pluginhost.Status{}
	if h := n.Plugins.Load(); h != nil {
		list = h.Status()
	}
	return WriteJSON(w, list)
}

// servePlugin shows a plugin.
func servePlugin(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	return writePlugin(h, w, r)
}

// ServeDeploy deploys the module in the request, to a share of the groups if it asks for a canary.
func ServeDeploy(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	change, err := readChange(r, append([]string{"ref"}, canaryParameters...)...)
	if err != nil {
		return badRequest(err)
	}
	canary, err := readCanary(r.URL.Query())
	if err != nil {
		return badRequest(err)
	}
	wasm, err := readDeployment(w, r, &change)
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		return caddy.APIError{HTTPStatus: status, Err: err}
	}
	if canary != nil {
		err = h.DeployCanary(r.Context(), r.PathValue("name"), wasm, change, *canary)
	} else {
		err = h.Deploy(r.Context(), r.PathValue("name"), wasm, change)
	}
	if err != nil {
		return changeError(w, err)
	}
	return writePlugin(h, w, r)
}

// ServeRollback deploys an earlier version of a plugin again.
func ServeRollback(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	change, err := readChange(r, "to", "force", "candidate")
	if err != nil {
		return badRequest(err)
	}
	if err := h.Rollback(r.Context(), r.PathValue("name"), change); err != nil {
		return changeError(w, err)
	}
	return writePlugin(h, w, r)
}

// ServeUndeploy takes the deployment of a plugin back.
func ServeUndeploy(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	change, err := readChange(r)
	if err != nil {
		return badRequest(err)
	}
	if err := h.Undeploy(r.Context(), r.PathValue("name"), change); err != nil {
		return changeError(w, err)
	}
	return writePlugin(h, w, r)
}

// ServePluginHistory lists the versions of a plugin's deployment, newest first.
func ServePluginHistory(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	list, err := h.History(r.Context(), r.PathValue("name"))
	if err != nil {
		return pluginError(err)
	}
	return WriteJSON(w, list)
}

// readChange reads who makes a change and why, the expected hashes, and the parameters to, force and candidate if they
// are among further.
func readChange(r *http.Request, further ...string) (c pluginhost.Change, err error) {
	q := r.URL.Query()
	if err := rejectUnknownParameters(q, append([]string{"by", "message"}, further...)...); err != nil {
		return c, err
	}
	c.By, c.Message, c.Ref = q.Get("by"), q.Get("message"), q.Get("ref")
	to, err := IntParameter(q, "to", 0, 1, 1<<53)
	if err != nil {
		return c, err
	}
	c.To = uint64(to)
	switch force := q.Get("force"); force {
	case "", "false":
	case "true":
		c.Force = true
	default:
		return c, fmt.Errorf("invalid force %q; use true or false", force)
	}
	if by, ok := r.Context().Value(authorKey{}).(string); ok {
		c.By = by
	}
	c.Candidate = q.Get("candidate")
	if c.Candidate != "" && c.Candidate != pluginhost.NoCandidate && !isHash(c.Candidate) {
		return c, fmt.Errorf("invalid candidate %.80q; use the hash of the canary's module, or %s for no canary",
			c.Candidate, pluginhost.NoCandidate)
	}
	if seen, ok := r.Context().Value(candidateKey{}).(string); ok {
		c.Candidate = seen
	}
	c.Expect, err = readIfMatch(r.Header.Values("If-Match"))
	return c, err
}

// candidateKey is the key of [WithCandidate] in a context.
type candidateKey struct{}

// WithCandidate returns a request whose change is made only with this canary; see [pluginhost.Change].
func WithCandidate(r *http.Request, hash string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), candidateKey{}, hash))
}

// authorKey is the key of [WithAuthor] in a context.
type authorKey struct{}

// WithAuthor returns a request whose author is an authenticated user, whatever the request says.
func WithAuthor(r *http.Request, user string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), authorKey{}, user))
}

// isHash reports whether a text is the hash of a module.
func isHash(text string) bool { return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == "" }

// readIfMatch returns the hashes in If-Match.
func readIfMatch(values []string) (hashes []string, err error) {
	for tag := range strings.SplitSeq(strings.Join(values, ","), ",") {
		tag = strings.TrimSpace(tag)
		if tag == "" {
			continue
		}
		hash := strings.Trim(tag, `"`)
		if hash != "*" && !isHash(hash) {
			return nil, fmt.Errorf("invalid If-Match %.80q; use the hash of a module, 64 hexadecimal digits, or *", tag)
		}
		hashes = append(hashes, hash)
	}
	if len(values) > 0 && len(hashes) == 0 { // a script whose variable is empty must not overwrite everything
		return nil, errors.New("If-Match is empty; use the hash of a module, or *")
	}
	return hashes, nil
}

// servePluginLogs lists recent log lines of a plugin.
func servePluginLogs(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	lines, err := h.Pipeline.Logs(r.PathValue("name"))
	if err != nil {
		return pluginError(err)
	}
	return WriteJSON(w, lines)
}

// pluginHostOf returns the plugin host, or a 404 if no plugin is configured.
func pluginHostOf(n *node.Node, r *http.Request) (*pluginhost.Host, error) {
	if h := n.Plugins.Load(); h != nil {
		return h, nil
	}
	return nil, pluginError(fmt.Errorf("%q: %w", r.PathValue("name"), pluginhost.ErrUnknownPlugin))
}

// writePlugin writes the status of the plugin that the request names. The hash of the module is the entity tag.
func writePlugin(h *pluginhost.Host, w http.ResponseWriter, r *http.Request) error {
	list := h.Status()
	i := slices.IndexFunc(list, func(s pluginhost.Status) bool { return s.Name == r.PathValue("name") })
	if i < 0 {
		return pluginError(fmt.Errorf("%q: %w", r.PathValue("name"), pluginhost.ErrUnknownPlugin))
	}
	w.Header().Set("ETag", `"`+list[i].Hash+`"`)
	return WriteJSON(w, list[i])
}

// changeError is pluginError for a change. If another module runs than expected, the entity tag is its hash.
func changeError(w http.ResponseWriter, err error) error {
	if changed := new(pluginhost.ChangedError); errors.As(err, &changed) {
		w.Header().Set("ETag", `"`+changed.Hash+`"`)
		return caddy.APIError{HTTPStatus: http.StatusPreconditionFailed, Err: err}
	}
	return pluginError(err)
}

// pluginError chooses the HTTP status of an error.
func pluginError(err error) error {
	code := http.StatusUnprocessableEntity
	switch {
	case errors.Is(err, pluginhost.ErrInvalidChange), errors.Is(err, pluginhost.ErrSettings):
		code = http.StatusBadRequest
	case isUnknownPlugin(err):
		code = http.StatusNotFound
		err = fmt.Errorf("finding the plugin %w; 'caddy edgerelay plugin list' shows the plugins", err)
	case errors.Is(err, pluginhost.ErrUnknownVersion), errors.Is(err, fs.ErrNotExist):
		code = http.StatusNotFound
	case errors.Is(err, pluginhost.ErrNoPrevious), errors.Is(err, pluginhost.ErrNotDeployed),
		errors.Is(err, pluginhost.ErrBusy), errors.Is(err, pluginhost.ErrNoCanary),
		errors.Is(err, pluginhost.ErrCanaryRuns), errors.Is(err, pluginhost.ErrOtherCanary),
		errors.Is(err, pluginhost.ErrRunsAlready):
		code = http.StatusConflict
	case pluginhost.IsDiskFull(err):
		code = http.StatusInsufficientStorage
	case errors.As(err, new(*pluginhost.StorageError)), errors.As(err, new(*fs.PathError)):
		code = http.StatusInternalServerError
	}
	return caddy.APIError{HTTPStatus: code, Err: err}
}

// isUnknownPlugin reports whether an error tells that no plugin has the name of the request. The pipeline's own error
// is [fs.ErrNotExist], as that of a missing file is.
func isUnknownPlugin(err error) bool {
	return errors.Is(err, pluginhost.ErrUnknownPlugin) || errors.Is(err, fs.ErrNotExist) &&
		!errors.As(err, new(*fs.PathError)) && !errors.As(err, new(*pluginhost.StorageError))
}

// servePluginDifferences lists the last events about which a shadow decided otherwise than its original.
func servePluginDifferences(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	list, err := h.Pipeline.Differences(r.PathValue("name"))
	if err != nil {
		return pluginError(err)
	}
	return WriteJSON(w, list)
}

// UnhealthyPlugin is a plugin with an open circuit breaker, with many failures, with a backlog, with a rejected
// update, or in the interpreter.
type UnhealthyPlugin struct {
	Name string `json:"name"`
	// Breaker is open while calls are suspended for a group, half-open while each suspended group waits for a trial
	// call.
	Breaker string `json:"breaker,omitempty"`
	// FailureRate is the share of failed calls in the last minute, if it is a tenth or more of at least 20 calls.
	FailureRate float64 `json:"failure_rate,omitempty"`
	// LastError is the error of the last failed call.
	LastError string `json:"last_error,omitempty"`
	// Slow tells how the plugin falls behind: how long its oldest event has waited, or that events were dropped in the
	// last minute.
	Slow string `json:"slow,omitempty"`
	// Refused is the reason for the rejection of a newer module.
	Refused string `json:"refused,omitempty"`
	// Engine is interpreter where the plugin runs 20 to 100 times slower than as machine code.
	Engine plugins.Engine `json:"engine,omitempty"`
}

// minRatedCalls and minFailureRate bound the failure rates that health shows.
const minRatedCalls, minFailureRate = 20, 0.1

// unhealthyPlugins lists the unhealthy plugins.
func unhealthyPlugins(n *node.Node) (list []UnhealthyPlugin) {
	h := n.Plugins.Load()
	if h == nil {
		return nil
	}
	for _, s := range h.Status() {
		if u := diagnosePlugin(&s, time.Now()); u != (UnhealthyPlugin{Name: s.Name}) {
			list = append(list, u)
		}
	}
	return list
}

// diagnosePlugin returns the faults of a plugin. Only the name is set if there is none.
func diagnosePlugin(s *pluginhost.Status, now time.Time) UnhealthyPlugin {
	u := UnhealthyPlugin{Name: s.Name, Slow: s.Slow(now), Refused: s.Refused}
	if s.Breaker != "closed" {
		u.Breaker = s.Breaker
	}
	if s.RecentCalls >= minRatedCalls {
		if rate := float64(s.RecentFailures) / float64(s.RecentCalls); rate >= minFailureRate {
			u.FailureRate = math.Round(100*rate) / 100
		}
	}
	if s.Engine == plugins.EngineInterpreter {
		u.Engine = s.Engine
	}
	if u.Breaker != "" || u.FailureRate > 0 {
		u.LastError = s.LastError
	}
	return u
}
