package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
)

// Subscribe asks the group's plugins whether a user may subscribe, and for the user's class. user is a JSON value, or
// nil. Every plugin must allow the subscription; the first plugin that names a class decides about the class. An
// error means that a plugin failed, in which case the Decision is a denial, or that ctx is done.
func (p *Pipeline) Subscribe(ctx context.Context, user []byte, group string) (Decision, error) {
	for {
		current := p.routes.Load()
		d, err := p.subscribe(ctx, current.find(group), user)
		if !errors.Is(err, errReplaced) || p.routes.Load() == current { // the latter: the pipeline is being closed
			return d, err
		}
	}
}

// subscribe asks the plugins of a route. errReplaced means that a plugin was removed meanwhile.
func (p *Pipeline) subscribe(ctx context.Context, rt *route, user []byte) (Decision, error) {
	d := Decision{Allow: true}
	var request []byte
	classified := false
	for i := range rt.steps {
		s := &rt.steps[i]
		if m := s.serving(rt.group); s.shadow || m != nil && m.hooks&OnSubscribe == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return Decision{Plugin: s.name}, fmt.Errorf("ask plugin %s: %w", s.name, err)
		}
		if request == nil {
			var err error
			if request, err = subscribeRequest(user, rt.group); err != nil {
				return Decision{Plugin: s.name}, err
			}
		}
		answer, by, named, err := s.subscribe(ctx, rt.hash, maphash.Bytes(p.seed, user), rt.group, request)
		if err != nil {
			return Decision{Plugin: s.name, Reason: "the plugin failed"},
				fmt.Errorf("ask plugin %s about group %s: %w", s.name, rt.group, err)
		}
		if !answer.Allow {
			answer.Plugin = s.name
			return answer, nil
		}
		d.Generation = by.classify(d.Generation)
		if named && !classified {
			d.Class, classified = answer.Class, true
		}
	}
	return d, nil
}

// subscribeRequest encodes the input of on_subscribe.
func subscribeRequest(user []byte, group string) ([]byte, error) {
	if len(user) == 0 {
		user = []byte("null")
	}
	request, err := json.Marshal(struct {
		User  json.RawMessage `json:"user"`
		Group string          `json:"group"`
	}{user, group})
	if err != nil {
		return nil, fmt.Errorf("encode the user as JSON: %w", err)
	}
	return request, nil
}
