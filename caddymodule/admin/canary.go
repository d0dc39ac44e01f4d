package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/caddymodule/node"
	"github.com/edgerelay/edgerelay/caddymodule/pluginhost"
)

// Defaults of a canary's limits.
const (
	defaultMaxErrors   = 0.01
	defaultMaxSlowdown = 2
)

// canaryParameters are the parameters of a deployment that describe a canary. Without the first one, there is none.
var canaryParameters = []string{"canary", "for", "max_errors", "max_slowdown", "max_differ"}

// readCanary reads the settings of a canary, nil if the request asks for none.
func readCanary(q url.Values) (*pluginhost.CanarySettings, error) {
	if !q.Has("canary") {
		for _, name := range canaryParameters {
			if q.Has(name) {
				return nil, fmt.Errorf("%s without canary; add the share of the groups, as in canary=10%%", name)
			}
		}
		return nil, nil
	}
	c := &pluginhost.CanarySettings{}
	c.MaxErrors, c.MaxSlowdown = defaultMaxErrors, defaultMaxSlowdown
	var err error
	if c.Share, err = parseShare("canary", q.Get("canary")); err != nil {
		return nil, err
	}
	if q.Has("max_errors") {
		if c.MaxErrors, err = parseShare("max_errors", q.Get("max_errors")); err != nil {
			return nil, err
		}
	}
	if q.Has("max_differ") {
		most, err := parseShare("max_differ", q.Get("max_differ"))
		if err != nil {
			return nil, err
		}
		c.MaxDiffer = &most
	}
	if q.Has("max_slowdown") {
		text := q.Get("max_slowdown")
		if c.MaxSlowdown, err = strconv.ParseFloat(strings.TrimSuffix(text, "x"), 64); err != nil {
			return nil, fmt.Errorf("invalid max_slowdown %.80q; use a factor such as 2x, or 0 for no limit", text)
		}
	}
	if q.Has("for") {
		if c.For, err = time.ParseDuration(q.Get("for")); err != nil || c.For <= 0 {
			return nil, fmt.Errorf("invalid for %.80q; use a duration such as 10m", q.Get("for"))
		}
	}
	return c, nil
}

// parseShare parses a share, such as 10% or 0.1.
func parseShare(name, text string) (float64, error) {
	number, isPercent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if isPercent {
		share /= 100
	}
	if err != nil || !(share >= 0 && share <= 1) {
		return 0, fmt.Errorf("invalid %s %.80q; use a share such as 10%%, or 0.1", name, text)
	}
	return share, nil
}

// ServeResizeCanary gives the running canary another share of the groups.
func ServeResizeCanary(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	change, err := readChange(r, "share", "candidate")
	if err != nil {
		return badRequest(err)
	}
	share, err := parseShare("share", r.URL.Query().Get("share"))
	if err != nil {
		return badRequest(err)
	}
	if err := h.ResizeCanary(r.Context(), r.PathValue("name"), share, change); err != nil {
		return changeError(w, err)
	}
	return writePlugin(h, w, r)
}

// ServePromote makes the candidate of the running canary the plugin's module.
func ServePromote(n *node.Node, w http.ResponseWriter, r *http.Request) error {
	h, err := pluginHostOf(n, r)
	if err != nil {
		return err
	}
	change, err := readChange(r, "candidate")
	if err != nil {
		return badRequest(err)
	}
	if err := h.Promote(r.Context(), r.PathValue("name"), change); err != nil {
		return changeError(w, err)
	}
	return writePlugin(h, w, r)
}
