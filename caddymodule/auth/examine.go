package auth

import (
	"context"

	"github.com/edgerelay/edgerelay/caddymodule/guest"
	"github.com/edgerelay/edgerelay/internal/doctor"
)

// Examine implements [guest.Examiner].
func (a *AWX) Examine(ctx context.Context) []guest.Finding {
	s := a.authorizer.Settings()
	return append(doctor.AWX(ctx, s.URL, s.SessionCookie, s.Transport), doctor.EventRate())
}

// Examine implements [guest.Examiner].
func (h *HTTP) Examine(ctx context.Context) []guest.Finding {
	return doctor.AuthEndpoint(ctx, h.authorizer)
}

// Examine implements [guest.Examiner].
func (j *JWT) Examine(ctx context.Context) []guest.Finding { return doctor.Tokens(ctx, j.authorizer) }

// ExamineMailbox implements [guest.MailboxExaminer].
func (a *AWX) ExamineMailbox(capacity int) guest.Finding { return doctor.AWXCapacity(capacity) }
