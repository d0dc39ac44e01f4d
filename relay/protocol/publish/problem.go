package publish

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// problem is a response to a request that was not carried out in full, in the form of RFC 9457.
type problem struct {
	Status  int
	Reason  Reason
	Detail  string
	Pointer string // to the member at fault; empty for the whole body

	retryAfter time.Duration // 0 leaves the header out
	outcome    *Outcome      // of a request that published nothing although it was valid
	cause      error         // for the log
}

// problemBody is the body of a problem.
type problemBody struct {
	Type    string  `json:"type"`
	Title   string  `json:"title"`
	Status  int     `json:"status"`
	Detail  string  `json:"detail"`
	Reason  string  `json:"reason"`
	Pointer *string `json:"pointer,omitempty"`
	*Outcome
}

// write sends the problem.
func (p *problem) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if p.retryAfter > 0 {
		h.Set("Retry-After", seconds(p.retryAfter))
	}
	body := problemBody{
		Type: "about:blank", Title: http.StatusText(p.Status), Status: p.Status,
		Detail: p.Detail, Reason: p.Reason.String(), Outcome: p.outcome,
	}
	switch p.Reason {
	case ReasonInvalid, ReasonGroup, ReasonType, ReasonMismatch:
		body.Pointer = &p.Pointer
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(body)
}

// invalid returns the problem of a body that could not be parsed.
func invalid(err error) *problem {
	var located *locatedError
	var tooMany tooManyError
	switch {
	case errors.As(err, &tooMany):
		return &problem{Status: http.StatusRequestEntityTooLarge, Reason: ReasonTooLarge, Detail: err.Error()}
	case errors.As(err, &located):
		return &problem{
			Status: http.StatusBadRequest, Reason: ReasonInvalid, Detail: located.text, Pointer: located.pointer(),
		}
	}
	return &problem{Status: http.StatusBadRequest, Reason: ReasonInvalid, Detail: err.Error()}
}
