package console

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/edgerelay/edgerelay/caddymodule/reject"
	"github.com/edgerelay/edgerelay/caddymodule/request"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/transport/ws"
)

// refusal is the answer to a request that is not carried out. As an error, it is that of a view.
type refusal struct {
	status int
	// reason is one word, for error routes and the log.
	reason  string
	message string
}

func (f *refusal) respond(w http.ResponseWriter, r *http.Request) {
	reject.Respond(w, r, f.status, f.reason, f.message)
}

// Error implements error.
func (f *refusal) Error() string { return f.message }

// answer answers a request that has failed, if it has.
func answer(w http.ResponseWriter, r *http.Request, err error) {
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		refused.respond(w, r)
		return
	}
	if failed := new(caddy.APIError); errors.As(err, failed) {
		reject.Respond(w, r, failed.HTTPStatus, "request", failed.Error())
	}
	// Any other error is that of a response under way: the page was closed.
}

// operator authenticates the request. It refuses users that are not operators.
func (h *Handler) operator(r *http.Request) (relay.Identity, *refusal) {
	id, err := h.config.Authorizer.Authenticate(r)
	switch {
	case errors.Is(err, relay.ErrUnauthenticated):
		return id, &refusal{
			http.StatusUnauthorized, reject.NotLoggedIn.String(),
			"not logged in; log in as an operator, then reload the page",
		}
	case err != nil:
		if r.Context().Err() == nil { // else the page was closed, and the authority is not at fault
			h.config.Log.Warn("console request not authenticated", "error", err)
		}
		return id, &refusal{
			http.StatusServiceUnavailable, reject.AuthFailed.String(), "authentication is unavailable",
		}
	case h.allows(id):
		return id, nil
	}
	return id, &refusal{http.StatusForbidden, "not_operator", "the console is for operators only"}
}

// allows reports whether the user is an operator.
func (h *Handler) allows(id relay.Identity) bool {
	if len(h.Operators) == 0 {
		return h.config.OpenToAll || id.Kind == relay.Superuser
	}
	return names(h.Operators, id)
}

// mayAct reports whether an operator may act.
func (h *Handler) mayAct(id relay.Identity) bool {
	return h.Actions && h.allows(id) && (len(h.Actors) == 0 || names(h.Actors, id))
}

// names reports whether a list of ids and names has the user.
func names(list []string, id relay.Identity) bool {
	// A number matches ids only: another user may have chosen the number as a name.
	named := id.Name != "" && strings.Trim(id.Name, "0123456789") != "" && slices.Contains(list, id.Name)
	return named || id.Key != "" && slices.Contains(list, id.Key)
}

// checkSource refuses requests that the console's own page has not sent. Browsers send at least one of the two headers
// with a POST; a request without both is no browser's, and belongs to the admin API.
func checkSource(r *http.Request) *refusal {
	from, origin := r.Header.Values("Sec-Fetch-Site"), r.Header.Values("Origin")
	scheme, hosts := request.PublicOrigin(r)
	switch {
	case len(from) > 0 && (len(from) > 1 || from[0] != "same-origin"),
		len(origin) > 0 && !ws.Origins(nil).Allow(r, scheme, hosts...),
		len(from) == 0 && len(origin) == 0:
		return &refusal{http.StatusForbidden, "cross_site", "actions are accepted from the console's own page only"}
	}
	return nil
}

// checkHost refuses names of hosts where no login proves that the name is the site's: with `auth none`, a page of
// another site could bind its own name to this address, and would then count as the console's own page.
func (h *Handler) checkHost(r *http.Request) *refusal {
	if !h.config.OpenToAll {
		return nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil
	}
	return &refusal{
		http.StatusForbidden, "host",
		"without a login, actions need an IP address or localhost as the host; set auth to use names",
	}
}
