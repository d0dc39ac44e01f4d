package layers

import (
	"encoding/json"
	"errors"
)

// Resync is what every channel layer says of losses.
type Resync struct {
	// Resync is a JSON text that the clients concerned get when events of their groups may have been lost: after the
	// events that were delivered before, and once a second at most. Default: none.
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
