package presence

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// hook is a webhook that records calls.
type hook struct {
	mu    sync.Mutex
	fail  func() error
	calls []Call
}

func (*hook) ID() string { return "h" }

func (h *hook) Send(_ context.Context, calls []Call) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		if err := h.fail(); err != nil {
			return err
		}
	}
	h.calls = append(h.calls, calls...)
	return nil
}

func (h *hook) text() (text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		text += c.Type + " "
	}
	return text
}

// Calls that a killed node has not sent are sent by another node.
func TestCallsSurviveTheirNode(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		broken, whole := &hook{fail: func() error { return errors.New("500") }}, &hook{}
		a, b := s.node(), s.node()
		a.SetWebhooks([]Webhook{broken})
		a.Enter(Key{"room", "1"}, 1, "", &Policy{Webhook: "h", WebhookUsers: true})
		members(t, a, "room")
		testkit.Eventually(t, "the webhook fails", func() bool { return a.Stats().Webhooks["h"].Trouble != "" })
		a.kill()
		b.SetWebhooks([]Webhook{whole})
		testkit.EventuallyWithin(t, 20*time.Second, "all calls are sent", func() error {
			if got := whole.text(); got != "occupied joined left vacated " {
				return errors.New(got)
			}
			return nil
		})
		testkit.Eventually(t, "calls are counted", func() bool { return b.Stats().CallsSent == 4 })
	})
}
