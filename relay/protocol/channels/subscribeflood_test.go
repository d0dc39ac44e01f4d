package channels_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/protocol/channels"
)

// deniedSession is a session whose authorizer denies every group.
type deniedSession struct {
	session
	asked int
}

func (s *deniedSession) Authorize(context.Context, string, bool) (relay.Subscription, error) {
	s.asked++
	return relay.Subscription{}, relay.ErrDenied
}

func (s *deniedSession) Amend(context.Context, []relay.Subscription, []string) (relay.Change, error) {
	return relay.Change{}, nil
}

// A message that asks for many groups costs the log a line, and one that asks for too many costs auth nothing.
func TestMessagesForManyGroups(t *testing.T) {
	template, err := channels.ParseTemplate("room_{message.rooms}")
	if err != nil {
		t.Fatal(err)
	}
	settings, err := channels.NewSettings(nil)
	if err != nil {
		t.Fatal(err)
	}
	settings.Messages = channels.Messages{Action: channels.SubscribeMessages, Join: []channels.Change{{Group: template}}}
	log := &strings.Builder{}
	r := channels.NewRoute("/ws/", &channels.Node{Log: slog.New(slog.NewTextHandler(log, nil))}, &channels.Stats{})
	r.Apply(settings)
	targets, err := settings.Messages.ResolveChanges(nil, func(string) []string { return nil })
	if err != nil {
		t.Fatal(err)
	}
	release, err := r.Reserve("7")
	if err != nil {
		t.Fatal(err)
	}
	s := &deniedSession{}
	s.limits.GroupsPerConnection = 100
	c := r.Open(s, targets, release)
	rooms := func(n int) []byte {
		list := make([]int, n)
		for i := range list {
			list[i] = i
		}
		text, _ := json.Marshal(map[string]any{"rooms": list})
		return text
	}
	c.Message(true, rooms(100))
	if lines := strings.Count(log.String(), "\n"); s.asked != 100 || lines != 1 || r.Stats.Refused.Load() != 100 {
		t.Errorf("100 groups: %d questions, %d lines, %d refused", s.asked, lines, r.Stats.Refused.Load())
	}
	c.Message(true, rooms(101))
	if s.asked != 100 || s.socket.code != relay.ClosePolicy {
		t.Errorf("101 groups: %d questions, closed with %d", s.asked-100, s.socket.code)
	}
}
