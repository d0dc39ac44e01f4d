package console

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/relay"
)

// maxAuthor is the longest name of an author, in bytes; see [pluginhost.Change].
const maxAuthor = 128

// authorOf names a user in the audit log and in the history of plugins.
func authorOf(id relay.Identity) string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, cmp.Or(id.Name, id.Key, kindText(id.Kind)))
	return strings.ToValidUTF8(name[:min(len(name), maxAuthor)], "")
}

// kindText names a user without a name: the kind, or for a site without logins, that there is none.
func kindText(k relay.Kind) string {
	if k == relay.Anybody {
		return "no login"
	}
	return k.String()
}

// audit writes the line of an action to the log, which is not throttled: the limit on actions bounds it.
func (h *Handler) audit(r *http.Request, id relay.Identity, name string, o outcome, err error) {
	fields := []any{
		"user", authorOf(id), "user_id", id.Key, "action", name, "object", fmt.Sprintf("%.200s", o.object),
		"address", request.ClientAddress(r),
	}
	if err != nil {
		h.config.Log.Warn("console action failed", append(fields, "error", err)...)
		return
	}
	h.config.Log.Info("console action", append(fields, "result", o.result)...)
}

// auditRefusal logs an action that was not tried. The line is throttled, because clients without rights cause it.
func (h *Handler) auditRefusal(r *http.Request, id relay.Identity, name string, f *refusal) {
	h.node.Log.Warn("console action refused", "user", authorOf(id), "action", name, "reason", f.reason,
		"address", request.ClientAddress(r))
}

// maxActions is the number of actions of all users that pass in a minute.
const maxActions = 60

// minute counts the actions of a minute.
type minute struct {
	mu    sync.Mutex
	began time.Time
	count int
}

// take counts an action, and reports whether it may pass.
func (m *minute) take(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.began) >= time.Minute {
		m.began, m.count = now, 0
	}
	m.count++
	return m.count <= maxActions
}
