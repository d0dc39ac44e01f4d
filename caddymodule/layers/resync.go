package layers

import (
	"encoding/json"
	"errors"
)

// Resync has the setting for lost events, which all channel layers share.
type Resync struct {
	// Resync is a JSON text for clients of a group that may have lost events. The text follows the events that were
	// delivered before the loss, at most once a second. Default: none.
	Resync string `json:"resync,omitempty" caddyfile:"<json>" example:"'{\"resync\": true}'"`
}

// ResyncText implements [guest.Resyncer].
func (r Resync) ResyncText() string { return r.Resync }

func (r Resync) validate() error {
	if r.Resync != "" && !json.Valid([]byte(r.Resync)) {
		return errors.New("channel_layer: resync is not JSON; write a text such as {\"resync\": true}")
	}
	return nil
}
