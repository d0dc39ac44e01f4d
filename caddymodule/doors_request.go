package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/awx"
	"github.com/edgerelay/edgerelay/relay/protocol/eventstream"
)

// bodyTimeout bounds the time in which the body of a request arrives. Variable for tests.
var bodyTimeout = 10 * time.Second

// maxWait is the longest time of a long poll.
const maxWait = 60 * time.Second

// doorRequest is the request of a client without a WebSocket.
type doorRequest struct {
	door relay.Door
	// awx are the groups of a client of AWX's protocol.
	awx awx.Request
	// body is that of a POST request, nil otherwise.
	body []byte
	// places are the tokens of the client's last positions by group.
	places map[string]string
	// lost tells that the client has had positions of groups that places lacks.
	lost   bool
	latest uint32
	// frames is set if the client gets the frames of the subprotocol in place of the emitters' texts.
	frames  bool
	padding bool
	// wait is that of a long poll.
	wait time.Duration
}

// readDoorRequest reads the parameters and the body of a request.
func readDoorRequest(
	w http.ResponseWriter, r *http.Request, door relay.Door, routed bool, maxBody int,
) (q *doorRequest, err error) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errors.New("malformed query")
	}
	q = &doorRequest{door: door, padding: parameters.Get("padding") == "1"}
	if q.frames, err = asksForFrames(parameters.Get("protocol")); err != nil {
		return nil, err
	}
	if door == relay.DoorLongPoll {
		q.frames = true
		if q.wait, err = parseWait(parameters.Get("wait")); err != nil {
			return nil, err
		}
	}
	if text := parameters.Get("latest"); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, errors.New("latest is a number of events")
		}
		q.latest = uint32(n)
	}
	id := r.Header.Get("Last-Event-Id")
	if id == "" {
		id = parameters.Get("last_event_id")
	}
	q.places, q.lost = eventstream.ParseID(id)
	if r.Method == http.MethodPost {
		if q.body, err = readDoorBody(w, r, maxBody); err != nil {
			return nil, err
		}
	}
	switch {
	case routed:
		return q, nil
	case q.body != nil:
		q.awx, err = awx.ParseRequest(q.body)
	default:
		query := awx.Query{
			Groups: parameters["group"], Kinds: parameters.Get("groups"), After: q.places, Lost: q.lost, Latest: q.latest,
		}
		q.awx, err = query.Request()
	}
	if err != nil {
		return nil, err
	}
	if n := q.awx.Groups(); door == relay.DoorEventStream && q.hasIDs() && n > eventstream.MaxGroups {
		return nil, fmt.Errorf("too many groups: %d; an event stream has at most %d", n, eventstream.MaxGroups)
	}
	return q, nil
}

// hasIDs reports whether the events have ids. A client that sends its positions in a body remembers them itself.
func (q *doorRequest) hasIDs() bool { return !q.frames || q.body == nil }

// asksForFrames reads the parameter protocol.
func asksForFrames(protocol string) (bool, error) {
	switch protocol {
	case "":
		return false, nil
	case awx.EventsSubprotocol:
		return true, nil
	}
	return false, errors.New("unknown protocol; use " + awx.EventsSubprotocol + ", or none for the events' texts")
}

// parseWait reads the seconds of a long poll.
func parseWait(text string) (time.Duration, error) {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= 0 && seconds <= maxWait.Seconds()) {
		return 0, fmt.Errorf("wait is a number of seconds, 0 to %.0f", maxWait.Seconds())
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

// Errors of requests that have a status of their own.
var (
	errMediaType = errors.New("the body of the request must be JSON; send Content-Type: application/json")
	errBodySize  = errors.New("the body of the request is too long")
	errBodySlow  = errors.New("the body of the request has not arrived in time")
)

// readDoorBody reads the body of a request, a JSON object. Another type than JSON could be sent by a form of any site.
func readDoorBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, errMediaType
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, errBodySize
	case errors.Is(err, os.ErrDeadlineExceeded):
		closeAfterAnswer(w, r)
		return nil, errBodySlow
	case err != nil:
		return nil, errors.New("the body of the request has not come in full")
	case !json.Valid(body):
		return nil, errors.New("the body of the request is not JSON")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// boundBody bounds the time in which the body of a request arrives, whoever reads it: net/http reads one that a handler
// has left, before it takes the next request.
func boundBody(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // not supported by every writer
	}
}

// closeAfterAnswer ends the connection of HTTP/1.1 after the answer, which then does not wait for the request's body.
func closeAfterAnswer(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

// doorStatus returns the status for an error of readDoorRequest.
func doorStatus(err error) int {
	switch {
	case errors.Is(err, errMediaType):
		return http.StatusUnsupportedMediaType
	case errors.Is(err, errBodySize):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, errBodySlow):
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// resume returns what a client of a route wants of a group from the history; latest is the number of events that each
// client of the route begins with.
func (q *doorRequest) resume(latest int) func(group string) *relay.Resume {
	since := awx.Since(q.body)
	return func(group string) *relay.Resume {
		if wish := since(group); wish != nil {
			return wish
		}
		if token, ok := q.places[group]; ok || q.lost {
			position, _ := relay.ParsePosition(token) // the zero Position is one that no history has
			return &relay.Resume{After: []relay.Position{position}}
		}
		if n := max(int(q.latest), latest); n > 0 {
			return &relay.Resume{Latest: n}
		}
		return nil
	}
}

// accepts reports whether a request's header Accept names a media type.
func accepts(r *http.Request, kind string) bool {
	return slices.ContainsFunc(r.Header["Accept"], func(line string) bool {
		for element := range splitList(line) {
			name, _, _ := strings.Cut(element, ";")
			if strings.EqualFold(strings.TrimSpace(name), kind) {
				return true
			}
		}
		return false
	})
}
