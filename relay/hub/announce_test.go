package hub_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgerelay/edgerelay/relay"
	"github.com/edgerelay/edgerelay/relay/hub"
)

// An announced gap names a position of the history, from which a client gets the events again; the history stays whole.
func TestAnnouncedGapBringsEventsOfHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, emitter, _ := historyHub(t)
		session, s := openWithPositions(h)
		follow(t, session, relay.Groups("h-1")...)
		plain, _ := open(h)
		subscribe(t, h, plain, "h-1")
		synctest.Wait() // until the first client follows the group
		for _, text := range []string{"a", "b", "c"} {
			if _, err := emitter.Publish(t.Context(), "h-1", []byte(text)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			time.Sleep(time.Minute)
		}
		positions := tokensOf(t, s.got())
		if len(positions) != 3 {
			t.Fatalf("got %q", s.got())
		}

		p, err := h.PlanGap(t.Context(), "h-1", hub.GapStart{Time: time.Now().Add(-150 * time.Second)})
		want := hub.GapPlan{GapAudience: hub.GapAudience{Positions: 1, Untold: 1}, Position: positions[0], Events: 2}
		if err != nil || p != want {
			t.Errorf("by time: %+v, %v; want %+v", p, err, want)
		}
		if p, err = h.PlanGap(t.Context(), "h-1", hub.GapStart{After: positions[1]}); err != nil || p.Events != 1 {
			t.Errorf("by position: %+v, %v", p, err)
		}
		h.AnnounceGap("h-1", p)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		frames := s.got()
		if last := frames[len(frames)-1]; last != "gap h-1 "+positions[1].String()+" operator 0" {
			t.Errorf("told %q", last)
		}
		again, s2 := openWithPositions(h)
		follow(t, again, relay.Subscription{Group: "h-1", Resume: &relay.Resume{After: positions[1:2]}})
		synctest.Wait()
		if got := shown(s2.got()); !slices.Equal(got, []string{"current", "subscribed h-1 ok 1", "event h-1 c"}) {
			t.Errorf("a client that resumes from there gets %q", got)
		}
	})
}

// Where the history does not reach back, clients are told without a position.
func TestAnnouncedGapWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, emitter, _ := historyHub(t)
		h.SetResync(`{"resync": true}`)
		session, s := openWithPositions(h)
		follow(t, session, relay.Groups("h-1", "other")...)
		plain, sp := open(h)
		subscribe(t, h, plain, "h-1")
		synctest.Wait() // until the first client follows the groups
		if _, err := emitter.Publish(t.Context(), "h-1", []byte("a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for group, reason := range map[string]relay.NotRecovered{"h-1": relay.NotRecoveredUnknown, "other": relay.NotRecoveredOff} {
			p, err := h.PlanGap(t.Context(), group, hub.GapStart{Time: time.Now().Add(-time.Hour)})
			if err != nil || !errors.Is(p.Reason, reason) || !p.Position.IsZero() {
				t.Errorf("%s: %+v, %v; want %v", group, p, err, reason)
			}
		}
		unknown, err := h.PlanGap(t.Context(), "h-1", hub.GapStart{After: relay.Position{Micros: 1, Mark: 1}})
		if err != nil || unknown.Reason == nil || !unknown.Position.IsZero() || unknown.Resync != 1 {
			t.Errorf("an unknown position: %+v, %v", unknown, err)
		}
		// Two announcements at once: the one without a position counts.
		known, _ := h.PlanGap(t.Context(), "h-1", hub.GapStart{After: tokensOf(t, s.got())[0]})
		h.Lost(relay.Loss{Cause: relay.LossSlowReader}) // the first report comes at once
		h.AnnounceGap("h-1", known)
		h.AnnounceGap("h-1", unknown)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		frames := s.got()
		if last := frames[len(frames)-1]; last != "gap h-1 - operator 0" {
			t.Errorf("told %q", frames)
		}
		if !strings.Contains(strings.Join(sp.got(), " "), `{"resync": true}`) {
			t.Errorf("the client without positions got %q", sp.got())
		}
		if _, err := h.PlanGap(t.Context(), "a b", hub.GapStart{}); err == nil {
			t.Error("an invalid group has a plan")
		}
	})
}
