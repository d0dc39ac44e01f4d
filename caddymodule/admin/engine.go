package admin

import "time"

// The types in this file are the engine's results in the JSON of the admin API. Each has the fields of the engine's
// type, which is converted; a field that the engine adds or renames does not compile until the JSON name is decided.

// LayerHealth is [relay.Health] in JSON.
type LayerHealth struct {
	OK               bool      `json:"ok"`
	Detail           string    `json:"detail"`
	Since            time.Time `json:"since"`
	Reconnects       uint64    `json:"reconnects"`
	Repairs          uint64    `json:"repairs"`
	Gaps             uint64    `json:"gaps"`
	Undecodable      uint64    `json:"undecodable"`
	RoundTrips       uint64    `json:"round_trips"`
	RoundTripSeconds float64   `json:"round_trip_seconds"`
	Ignored          uint64    `json:"ignored"`
	FaultyGroups     int       `json:"faulty_groups"`
	Healed           uint64    `json:"healed"`
}

// Receipt is [relay.Receipt] in JSON.
type Receipt struct {
	Members      int `json:"members"`
	OverCapacity int `json:"over_capacity"`
}

// DrainStatus is [hub.DrainStatus] in JSON.
type DrainStatus struct {
	State   string    `json:"state"`
	Clients int       `json:"clients"`
	Evicted int       `json:"evicted"`
	Open    int       `json:"open"`
	Began   time.Time `json:"began,omitzero"`
	Ends    time.Time `json:"ends,omitzero"`
}
