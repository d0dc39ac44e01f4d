package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

// shownConfig returns the outputs of an event that asks the actor for its configuration.
func shownConfig(p *Pipeline, group string) string {
	return show(p.Process(Event{Group: group, Payload: do("config")}, nil))
}

// prepare prepares a change of a plugin and closes it with the test.
func prepare(t *testing.T, p *Pipeline, s Spec) *Prepared {
	t.Helper()
	pr, err := p.Prepare(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pr.Close)
	return pr
}

func TestInstallAfterAnotherChange(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		change func(t *testing.T, p *Pipeline)
		// want is the error of the first Install, and wantRefresh the error of Refresh.
		want, wantRefresh error
	}{
		{"nothing changed", func(*testing.T, *Pipeline) {}, nil, nil},
		{"the same settings again", func(t *testing.T, p *Pipeline) {
			if err := p.Apply(ctx, []Spec{versioned(t, 1)}); err != nil {
				t.Error(err)
			}
		}, nil, nil},
		{"another plugin came", func(t *testing.T, p *Pipeline) {
			other := Spec{Name: "pass", Wasm: fixture(t, "pass"), Groups: []string{"x"}}
			if err := p.Apply(ctx, []Spec{versioned(t, 1), other}); err != nil {
				t.Error(err)
			}
		}, nil, nil},
		{"another module was deployed", func(t *testing.T, p *Pipeline) {
			if err := p.Deploy(ctx, "actor", fixture(t, "pass")); err != nil {
				t.Error(err)
			}
		}, ErrOutdated, nil},
		{"samples changed", func(t *testing.T, p *Pipeline) {
			p.SetSamples("actor", []Sample{{Group: "g1", Payload: do("drop"), Verdict: "drop"}})
		}, ErrOutdated, nil},
		{"the plugin was removed", func(t *testing.T, p *Pipeline) {
			if err := p.Apply(ctx, nil); err != nil {
				t.Error(err)
			}
		}, ErrOutdated, os.ErrNotExist},
		{"the plugin was removed and came again", func(t *testing.T, p *Pipeline) {
			for _, specs := range [][]Spec{nil, {versioned(t, 1)}} {
				if err := p.Apply(ctx, specs); err != nil {
					t.Error(err)
				}
			}
		}, ErrOutdated, nil},
		{"the pipeline was closed", func(t *testing.T, p *Pipeline) { _ = p.Close() }, ErrClosed, ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pipeline(t, Options{}, versioned(t, 1))
			pr := prepare(t, p, versioned(t, 2))
			if got := shownConfig(p, "g1"); got != "g1 1" {
				t.Fatalf("a prepared module is live before its installation: %s", got)
			}
			c.change(t, p)
			err := p.Install(pr)
			if !errors.Is(err, c.want) {
				t.Fatalf("install: %v, want %v", err, c.want)
			}
			if err != nil {
				if err = pr.Refresh(ctx); !errors.Is(err, c.wantRefresh) {
					t.Fatalf("refresh: %v, want %v", err, c.wantRefresh)
				}
				if err != nil {
					return
				}
				if err = p.Install(pr); err != nil {
					t.Fatalf("install after a refresh: %v", err)
				}
			}
			if got := shownConfig(p, "g1"); got != "g1 2" {
				t.Errorf("after the installation an event gives %q", got)
			}
		})
	}
}

// A deployment changes settings as well.
func TestInstallWithOtherSettings(t *testing.T) {
	p := pipeline(t, Options{}, versioned(t, 1))
	s := versioned(t, 2)
	s.Groups = []string{"h"}
	if err := p.Install(prepare(t, p, s)); err != nil {
		t.Fatal(err)
	}
	if g, h := shownConfig(p, "g1"), shownConfig(p, "h"); h != "h 2" || g != "g1 "+string(do("config")) {
		t.Errorf("the old group gives %q, the new one %q", g, h)
	}
	s.ShadowOf = "actor"
	if _, err := p.Prepare(context.Background(), s); err == nil || !strings.Contains(err.Error(), "shadows") {
		t.Errorf("a shadow of itself: %v", err)
	}
	s.Name = "unknown"
	if _, err := p.Prepare(context.Background(), s); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an unknown plugin: %v", err)
	}
}

func TestPreparedAllIsRefreshed(t *testing.T) {
	ctx := context.Background()
	p := pipeline(t, Options{}, versioned(t, 1))
	other := Spec{Name: "pass", Wasm: fixture(t, "pass"), Groups: []string{"x"}}
	pr, err := p.PrepareAll(ctx, []Spec{versioned(t, 1), other})
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	s := versioned(t, 1)
	s.Config = json.RawMessage("3")
	if err := p.Install(prepare(t, p, s)); err != nil {
		t.Fatal(err)
	}
	if err := p.Install(pr); !errors.Is(err, ErrOutdated) {
		t.Fatalf("the module that was to stay is gone: %v", err)
	}
	if err := pr.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.Install(pr); err != nil {
		t.Fatal(err)
	}
	if got := shownConfig(p, "g1"); got != "g1 1" || len(p.Health()) != 2 {
		t.Errorf("an event gives %q, %d plugins", got, len(p.Health()))
	}
}

// A prepared module outlives the pipeline until its owner closes it.
func TestPreparedIsClosedAfterThePipeline(t *testing.T) {
	p := pipeline(t, Options{}, versioned(t, 1))
	pr := prepare(t, p, versioned(t, 2))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	pr.Close()
	pr.Close()
	if _, err := p.Prepare(context.Background(), versioned(t, 3)); !errors.Is(err, ErrClosed) {
		t.Errorf("a preparation after Close: %v", err)
	}
}

// A pipeline that is closed during a preparation has no plugins, which is no fault of the caller's.
func TestClosedDuringAPreparation(t *testing.T) {
	p := pipeline(t, Options{})
	if err := p.Apply(context.Background(), []Spec{versioned(t, 1)}); err != nil {
		t.Fatal(err)
	}
	pr := prepare(t, p, versioned(t, 2))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pr.plan(); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
}
