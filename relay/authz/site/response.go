package site

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/internal/pyjson"
	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/authz/rules"
)

// maxLifetime bounds the lifetime of a login: ten years, so that arithmetic with times cannot overflow.
const maxLifetime = 10 * 365 * 24 * time.Hour

// answer is what the site has said about a login. It is immutable.
type answer struct {
	id     relay.Identity // without Credentials
	groups rules.Patterns
	until  time.Time // zero: no end
}

// parseAnswer reads the body of a response. The time is that of the response.
func parseAnswer(body []byte, now time.Time) (*answer, error) {
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	var members map[string]any
	if err := dec.Decode(&members); err != nil || members == nil {
		return nil, errors.New("the response is not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the response has text after the JSON object")
	}
	a := &answer{}
	if err := a.readUser(members); err != nil {
		return nil, err
	}
	if err := a.readGroups(members); err != nil {
		return nil, err
	}
	lifetime, ok := members["lifetime"]
	if !ok || lifetime == nil {
		return a, nil
	}
	number, ok := lifetime.(json.Number)
	seconds, err := number.Float64()
	if !ok || err != nil || !(seconds >= 0 && seconds <= maxLifetime.Seconds()) {
		return nil, errors.New("lifetime is not a number of seconds; use one such as 3600, or leave it out")
	}
	a.until = now.Add(time.Duration(seconds * float64(time.Second)))
	return a, nil
}

// readUser reads the member "user": an id, or an object with "id" and perhaps "name", which is the user's profile.
func (a *answer) readUser(members map[string]any) error {
	user, ok := members["user"]
	if !ok || user == nil {
		return relay.ErrUnauthenticated
	}
	profile := map[string]any{"id": user}
	if object, ok := user.(map[string]any); ok {
		profile, user = object, object["id"]
	}
	switch id := user.(type) {
	case string:
		a.id.Key, a.id.ID = id, string(pyjson.AppendString(nil, id))
	case json.Number:
		a.id.Key, a.id.ID = id.String(), id.String()
	}
	if a.id.Key == "" {
		return errors.New("user has no id; use a text or a number, or null for nobody")
	}
	a.id.Name = a.id.Key
	if name, ok := profile["name"].(string); ok && name != "" {
		a.id.Name = name
	}
	if superuser, _ := profile["superuser"].(bool); superuser {
		a.id.Kind = relay.Superuser
	}
	text, err := json.Marshal(profile)
	if err != nil {
		return fmt.Errorf("user: %w", err)
	}
	a.id.Profile = string(text)
	return nil
}

// readGroups reads the member "groups". Without it, the user may see no group.
func (a *answer) readGroups(members map[string]any) error {
	groups, ok := members["groups"]
	if !ok || groups == nil {
		return nil
	}
	list, ok := groups.([]any)
	if !ok {
		return errors.New("groups is not a list; use one such as [\"orders-7\", \"news-*\"]")
	}
	var texts []string
	for _, element := range list {
		text, ok := element.(string)
		if !ok {
			return errors.New("groups has an element that is not a text")
		}
		texts = append(texts, text)
	}
	a.groups = rules.NewPatterns(texts)
	return nil
}
