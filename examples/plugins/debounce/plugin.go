// Command debounce is an edgerelay plugin that delivers the latest event of each key once the key has been quiet for a
// moment. Pages that show a state, such as the status of a host, then redraw once instead of for every event.
package main

import (
	"errors"
	"fmt"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

// settings are the plugin's configuration.
type settings struct {
	key     string // path of the value that tells events of different things apart; empty: one thing per group
	wait    int64  // ms without an event of the key
	maxWait int64  // ms after the first event of the key
}

// thing tells apart what events are about.
type thing struct{ group, key string }

// pending is the latest event about a thing, which waits for its delivery.
type pending struct {
	payload     []byte
	position    string // in the history of the group; empty if there is none
	first, last int64  // Unix milliseconds
}

// maxHeld is how long an event may wait, in milliseconds, and keep its place in the history.
const maxHeld = 1500

// maxBytes is how much memory the waiting events take. Beyond, events pass at once.
const maxBytes = 8 << 20

var (
	config settings
	// All events of a group come to the same instance.
	waiting = map[thing]*pending{}
	order   []thing // of waiting, by the first event
	bytes   int     // in waiting
)

//go:wasmexport ev_init
func Init() int32 { return edgerelay.Init(setup) }

//go:wasmexport ev_on_event
func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, onEvent) }

//go:wasmexport ev_on_tick
func OnTick() uint64 { return edgerelay.OnTick(onTick) }

func setup() error {
	key, _ := edgerelay.ConfigText("key")
	config = settings{key, edgerelay.ConfigInt("wait_ms", 500), edgerelay.ConfigInt("max_wait_ms", 5000)}
	if config.wait < 1 || config.maxWait < config.wait {
		return errors.New("config: wait_ms must be 1 or more, and max_wait_ms not less than wait_ms")
	}
	waiting, order, bytes = map[thing]*pending{}, nil, 0
	return nil
}

func onEvent(e *edgerelay.Event) edgerelay.Verdict {
	if e.IsReplay() {
		return edgerelay.Pass // nothing is late for a client that comes back
	}
	about := thing{group: e.Group}
	if config.key != "" {
		key, ok := e.Text(config.key)
		if !ok {
			return edgerelay.Pass // about nothing that has a state
		}
		about.key = key
	}
	now, p := edgerelay.Now(), waiting[about]
	if p == nil {
		if bytes+len(e.Payload) > maxBytes {
			return edgerelay.Pass
		}
		p = &pending{first: now}
		waiting[about] = p
		order = append(order, about)
	}
	bytes += len(e.Payload) - len(p.payload)
	p.payload, p.position, p.last = append(p.payload[:0], e.Payload...), e.Position(), now
	return edgerelay.Drop
}

// positionAt returns the position with which the event is delivered at a time. Meanwhile clients may have got later
// events about other things, and they resume from two seconds before the last of them. Without a position, a client
// that has missed an older event is told so.
func (p *pending) positionAt(now int64) string {
	if now-p.last > maxHeld {
		return ""
	}
	return p.position
}

// onTick delivers the events whose time has come, as many as one call may emit.
func onTick() error {
	now, left := edgerelay.Now(), order[:0]
	full := false
	for _, about := range order {
		p := waiting[about]
		if full || now-p.last < config.wait && now-p.first < config.maxWait {
			left = append(left, about)
			continue
		}
		switch err := edgerelay.EmitAt(about.group, p.payload, p.positionAt(now)); {
		case err == edgerelay.ErrTooMany:
			full = true
			left = append(left, about)
		case err != nil:
			return fmt.Errorf("deliver the event of %s: %w", about.group, err)
		default:
			bytes -= len(p.payload)
			delete(waiting, about)
		}
	}
	order = left
	return nil
}

func main() {}
