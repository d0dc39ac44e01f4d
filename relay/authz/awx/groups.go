package awx

import (
	"context"
	"errors"
	"strings"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/internal/authority"
)

// systemJobs is the resource of AWX's management jobs, which only superusers and auditors may see.
const systemJobs = "system_jobs"

var (
	// checkedByAWX maps the kinds of group that AWX's own consumer checks to resources below /api/v2/.
	checkedByAWX = map[string]string{
		"job_events":            "jobs",
		"workflow_events":       "workflow_jobs",
		"ad_hoc_command_events": "ad_hoc_commands",
	}
	// checkedIfStrict are the other kinds of group that belong to an object.
	checkedIfStrict = map[string]string{
		"project_update_events":   "project_updates",
		"inventory_update_events": "inventory_updates",
		"system_job_events":       systemJobs,
	}
	// publicKinds are AWX's other kinds, which every user may see.
	publicKinds = map[string]bool{"jobs": true, "schedules": true, "inventories": true}
)

// Authorize implements [relay.Authorizer].
func (a *Authorizer) Authorize(ctx context.Context, id relay.Identity, group string) error {
	kind, item, _ := strings.Cut(group, "-")
	resource := a.resourceOf(kind)
	if resource == "" {
		return a.authorizeUnowned(id, kind, item)
	}
	c, ok := id.Credentials.(*credentials)
	if !ok || !isDatabaseID(item) {
		return relay.ErrDenied
	}
	if c.expired() { // AWX would deny every object; the client must reconnect with a new token
		return relay.ErrExpired
	}
	return a.authorizeObject(ctx, c, id.Kind, resource+"/"+item+"/", authority.UserRequester(authority.ClassSubscription, id.Key), false)
}

// Rechecks implements [relay.GroupRechecker].
func (a *Authorizer) Rechecks(group string) bool {
	kind, item, _ := strings.Cut(group, "-")
	return a.resourceOf(kind) != "" && isDatabaseID(item)
}

// RecheckGroup implements [relay.GroupRechecker].
func (a *Authorizer) RecheckGroup(ctx context.Context, id relay.Identity, group string) error {
	c, ok := id.Credentials.(*credentials)
	kind, item, _ := strings.Cut(group, "-")
	resource := a.resourceOf(kind)
	if !ok || resource == "" || c.expired() { // AWX cannot decide
		return nil
	}
	err := a.authorizeObject(ctx, c, id.Kind, resource+"/"+item+"/", authority.UserRequester(authority.ClassRecheck, id.Key), true)
	if errors.Is(err, relay.ErrDenied) && c.expired() { // the token expired during the request
		return nil
	}
	return err
}

// resourceOf returns the API's resource for a kind of group, or "" if groups of that kind belong to no object.
func (a *Authorizer) resourceOf(kind string) string {
	resource := checkedByAWX[kind]
	if resource == "" && a.settings.Strict {
		resource = checkedIfStrict[kind]
	}
	return resource
}

// authorizeUnowned decides about groups that belong to no object.
func (a *Authorizer) authorizeUnowned(id relay.Identity, kind, item string) error {
	switch {
	case !a.settings.Strict:
	case kind == "control" && item != "limit_reached_"+id.Key:
		return relay.ErrOtherUser
	case kind != "control" && a.settings.DenyOthers && !publicKinds[kind]:
		return relay.ErrDenied
	}
	return nil
}

// authorizeObject returns ErrDenied if a login may not see the object at path. With fresh, the cache does not count.
func (a *Authorizer) authorizeObject(
	ctx context.Context, c *credentials, kind relay.Kind, path string, by authority.Requester, fresh bool,
) error {
	canSee, err := a.objects.Get(ctx, c.key+"\x00"+path, fresh, func(ctx context.Context) (bool, error) {
		return a.api.canSee(ctx, c, by, kind, path)
	})
	if err == nil && !canSee {
		return relay.ErrDenied
	}
	return err
}

// isDatabaseID reports whether item is the canonical decimal form of a database id. Other spellings of a number must
// not reach the path of a request.
func isDatabaseID(item string) bool {
	if item == "" || len(item) > 18 || len(item) > 1 && item[0] == '0' {
		return false
	}
	return strings.Trim(item, "0123456789") == ""
}
