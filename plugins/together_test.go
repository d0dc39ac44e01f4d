package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// echo resumes the events of ticks at once.
type echo struct{ p *Pipeline }

func (e echo) Resume(group string) { e.p.Resume(group, nil) }
func (e echo) Deliver([]Output)    {}

// TestAllTogether makes all calls at the same time while plugins fail, and closes the pipeline amid them. It is for the
// race detector, and finds deadlocks.
func TestAllTogether(t *testing.T) {
	p := pipeline(t, Options{})
	p.HandleTicks(echo{p})
	p.OnWithheld(func(string, Position) {})
	p.OnReclassify(func() {})
	specs := func(n int) []Spec {
		live, twin, tick, spin := actor(t), actor(t), ticker(t, "{}"), spinner(t, 5*time.Millisecond)
		live.Config = json.RawMessage(fmt.Sprint(n % 2))
		live.Instances, live.OnError, live.Cooldown = 2, []OnError{"", OnErrorLastGood}[n%2], time.Millisecond
		twin.Name, twin.ShadowOf = "twin", "actor"
		tick.Tick, tick.Instances, tick.Groups = minTick, 1+n%2, []string{"g1", "t*"}
		spin.Cooldown = time.Millisecond
		return append([]Spec{live, twin, tick}, []Spec{spin}[:n%3%2]...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := p.Apply(ctx, specs(0)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	repeat := func(what string, f func(n int) error) {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := f(n); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) &&
					!errors.Is(err, ErrOutdated) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
	events := [][]byte{do("pass"), do("trap"), do("split"), do("drop"), do("replace", "with", "{}"), do("loop")}
	groups := []string{"g1", "g2", "g3", "spin-1", "t1", "other"}
	for range 2 {
		repeat("run", func(n int) error {
			g := groups[rand.N(len(groups))]
			out, _ := p.Run(Event{Group: g, Payload: events[rand.N(len(events))]}, nil)
			for i := range out {
				if out[i].PerClass {
					_, _, err := p.Render(uint8(n%10), Event{Group: out[i].Group, Payload: out[i].Payload}, &out[i])
					if err != nil && !errors.Is(err, ErrReclassified) {
						return err
					}
				}
			}
			return nil
		})
	}
	repeat("subscribe", func(n int) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(n%3)*time.Millisecond)
		defer cancel()
		_, _ = p.Subscribe(ctx, []byte(`{"do":"allow"}`), groups[n%len(groups)])
		return nil
	})
	repeat("apply", func(n int) error { return p.Apply(ctx, specs(n)) })
	repeat("deploy", func(n int) error {
		return p.Deploy(ctx, "actor", fixture(t, []string{"actor", "pass"}[n%2]))
	})
	repeat("read", func(int) error {
		p.Health()
		_, _ = p.Logs("actor")
		_, _ = p.Differences("twin") // a closed pipeline has no plugins
		p.Generation("g1")
		p.Observe(Event{Group: "g1", Payload: events[0]})
		return nil
	})
	time.Sleep(500 * time.Millisecond)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	cancel()
	wg.Wait()
}
