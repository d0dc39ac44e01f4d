package plugins

import (
	"slices"
	"testing"
	"time"
)

// TestBreakerTransitions covers every phase of a circuit breaker with every event.
func TestBreakerTransitions(t *testing.T) {
	const now, cooldown = int64(1000), 100 * time.Nanosecond
	limits := breakerLimits{maxFailures: 2, cooldown: cooldown}
	closed := breaker{phase: breakerClosed, score: 1, calls: 1, failures: 1, rateBegan: 7, lastFailure: 7}
	half := breaker{phase: breakerClosed, calls: 19, failures: 9, rateBegan: 7, lastFailure: 7}
	worse := breaker{phase: breakerClosed, calls: 20, failures: 10, rateBegan: 7, lastFailure: 7}
	better := breaker{phase: breakerClosed, calls: 24, failures: 8, rateBegan: 7, lastFailure: 7}
	full := breaker{phase: breakerClosed, calls: rateSpan, failures: 10, rateBegan: 7, lastFailure: 7}
	old := breaker{
		phase: breakerClosed, calls: 30, failures: 14, rateBegan: now - int64(breakerMemory) - 1, lastFailure: 7,
	}
	open := breaker{phase: breakerOpen, score: 2, retryAt: now + 1, lastFailure: 7}
	due := breaker{phase: breakerOpen, score: 2, retryAt: now, lastFailure: 7}
	halfOpen := breaker{phase: breakerHalfOpen, score: 2, failedTrials: 1, retryAt: now - 1, lastFailure: 7}
	recovered := breaker{phase: breakerClosed, lastFailure: 7}
	for _, c := range []struct {
		name      string
		before    breaker
		event     breakerEvent
		after     breaker
		permitted bool
	}{
		{"closed, request", closed, callRequested, closed, true},
		{
			"closed, success", closed, callSucceeded,
			breaker{phase: breakerClosed, score: 0, calls: 2, failures: 1, rateBegan: 7, lastFailure: 7},
			false,
		},
		{
			"closed without failures, success",
			breaker{},
			callSucceeded,
			breaker{phase: breakerClosed, calls: 1, rateBegan: now},
			false,
		},
		{
			"closed, failure below the limit",
			breaker{},
			callFailed,
			breaker{score: 1, calls: 1, failures: 1, rateBegan: now, lastFailure: now},
			false,
		},
		{
			"closed, failure at the limit", closed, callFailed,
			breaker{
				phase: breakerOpen, score: 2, calls: 2, failures: 2, rateBegan: 7, retryAt: now + 100, lastFailure: now,
			},
			false,
		},
		{
			"closed, half of the calls have failed", half, callFailed,
			breaker{
				phase: breakerOpen, score: 1, calls: 20, failures: 10, rateBegan: 7, retryAt: now + 100,
				lastFailure: now,
			},
			false,
		},
		{
			"closed, a success does not open", worse, callSucceeded,
			breaker{phase: breakerClosed, calls: 21, failures: 10, rateBegan: 7, lastFailure: 7},
			false,
		},
		{
			"closed, a third of the calls have failed", better, callFailed,
			breaker{phase: breakerClosed, score: 1, calls: 25, failures: 9, rateBegan: 7, lastFailure: now},
			false,
		},
		{
			"closed, the counts are halved", full, callSucceeded,
			breaker{phase: breakerClosed, calls: rateSpan/2 + 1, failures: 5, rateBegan: 7, lastFailure: 7},
			false,
		},
		{
			"closed, the counts are too old", old, callFailed,
			breaker{phase: breakerClosed, score: 1, calls: 1, failures: 1, rateBegan: now, lastFailure: now},
			false,
		},
		{"closed, abandoned", closed, callAbandoned, closed, false},

		{"open, request too early", open, callRequested, open, false},
		{
			"open, request after the cooldown", due, callRequested,
			breaker{phase: breakerHalfOpen, score: 2, retryAt: now, lastFailure: 7},
			true,
		},
		{"open, success of an earlier call", open, callSucceeded, recovered, false},
		{
			"open, failure of an earlier call", open, callFailed,
			breaker{phase: breakerOpen, score: 2, retryAt: now + 1, lastFailure: now},
			false,
		},
		{"open, abandoned", open, callAbandoned, open, false},

		{"half-open, request", halfOpen, callRequested, halfOpen, false},
		{"half-open, success", halfOpen, callSucceeded, recovered, false},
		{
			"half-open, failure", halfOpen, callFailed,
			breaker{phase: breakerOpen, score: 2, failedTrials: 2, retryAt: now + 400, lastFailure: now},
			false,
		},
		{
			"half-open, abandoned", halfOpen, callAbandoned,
			breaker{phase: breakerOpen, score: 2, failedTrials: 1, retryAt: now - 1, lastFailure: 7},
			false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			after, permitted := c.before.next(c.event, now, limits)
			if after != c.after || permitted != c.permitted {
				t.Errorf(
					"%+v becomes %+v, permitted %t; want %+v, %t",
					c.before,
					after,
					permitted,
					c.after,
					c.permitted,
				)
			}
		})
	}
	if got := trialPause(cooldown, 99); got != 32*cooldown {
		t.Errorf("after many failed trials the pause is %v, want %v", got, 32*cooldown)
	}
}

// TestSupplyTransitions covers every phase of the supply of spare instances with every event.
func TestSupplyTransitions(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	idle := supplyState{phase: supplyIdle}
	building := supplyState{phase: supplyBuilding, failedBuilds: 1, retryAt: now}
	paused := supplyState{phase: supplyPaused, failedBuilds: 1, retryAt: now.Add(1)}
	due := supplyState{phase: supplyPaused, failedBuilds: 1, retryAt: now}
	closed := supplyState{phase: supplyClosed}
	for _, c := range []struct {
		name   string
		before supplyState
		event  supplyEvent
		after  supplyState
	}{
		{"idle, request", idle, instanceRequested, supplyState{phase: supplyBuilding}},
		{"idle, closed", idle, moduleClosed, closed},
		{"building, request", building, instanceRequested, building},
		{"building, success", building, buildSucceeded, idle},
		{
			"building, first failure",
			supplyState{phase: supplyBuilding},
			buildFailed,
			supplyState{phase: supplyPaused, failedBuilds: 1, retryAt: now.Add(startPauseMin)},
		},
		{
			"building, second failure", building, buildFailed,
			supplyState{phase: supplyPaused, failedBuilds: 2, retryAt: now.Add(2 * startPauseMin)},
		},
		{
			"building, many failures",
			supplyState{phase: supplyBuilding, failedBuilds: 99},
			buildFailed,
			supplyState{phase: supplyPaused, failedBuilds: 100, retryAt: now.Add(startPauseMax)},
		},
		{"building, closed", building, moduleClosed, closed},
		{"paused, request too early", paused, instanceRequested, paused},
		{
			"paused, request after the pause", due, instanceRequested,
			supplyState{phase: supplyBuilding, failedBuilds: 1, retryAt: now},
		},
		{"paused, success of a concurrent build", paused, buildSucceeded, idle},
		{"paused, closed", paused, moduleClosed, closed},
		{"closed, request", closed, instanceRequested, closed},
		{"closed, success", closed, buildSucceeded, closed},
		{"closed, failure", closed, buildFailed, closed},
		{"closed, closed", closed, moduleClosed, closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if after := c.before.next(c.event, now); after != c.after {
				t.Errorf("%+v becomes %+v, want %+v", c.before, after, c.after)
			}
		})
	}
}

// TestDeploymentTransitions covers every phase of a deployment with every change.
func TestDeploymentTransitions(t *testing.T) {
	a, b, c := &module{hash: "a"}, &module{hash: "b"}, &module{hash: "c"}
	d, e := &module{hash: "d"}, &module{hash: "e"}
	tenth, half, other := &canary{module: d}, &canary{module: d, share: 0.5}, &canary{module: e}
	canary := deployment{phase: deploymentCanary, live: b, canary: tenth, replaced: 1}
	guardedCanary := deployment{phase: deploymentCanary, live: b, fallback: a, canary: tenth, replaced: 1}
	pending := deployment{}
	live := deployment{phase: deploymentLive, live: b, replaced: 1}
	guarded := deployment{phase: deploymentGuarded, live: b, fallback: a, replaced: 1}
	removed := deployment{phase: deploymentRemoved, replaced: 1}
	for _, tc := range []struct {
		name    string
		before  deployment
		change  deploymentChange
		after   deployment
		retired []*module
	}{
		{
			"pending, install", pending,
			deploymentChange{event: moduleInstalled, installed: a},
			deployment{phase: deploymentLive, live: a},
			nil,
		},
		{"pending, revoke", pending, deploymentChange{event: fallbackRevoked}, pending, nil},
		{
			"pending, remove", pending,
			deploymentChange{event: pluginRemoved},
			deployment{phase: deploymentRemoved},
			nil,
		},
		{
			"live, install", live,
			deploymentChange{event: moduleInstalled, installed: c},
			deployment{phase: deploymentLive, live: c, replaced: 2},
			[]*module{b},
		},
		{
			"live, install and keep", live,
			deploymentChange{event: moduleInstalled, installed: c, keepLive: true},
			deployment{phase: deploymentGuarded, live: c, fallback: b, replaced: 2},
			nil,
		},
		{"live, revoke", live, deploymentChange{event: fallbackRevoked}, live, nil},
		{"live, remove", live, deploymentChange{event: pluginRemoved}, removed, []*module{b}},
		{
			"guarded, install: the fallback stays", guarded,
			deploymentChange{event: moduleInstalled, installed: c},
			deployment{phase: deploymentGuarded, live: c, fallback: a, replaced: 2},
			[]*module{b},
		},
		{
			"guarded, install and keep", guarded,
			deploymentChange{event: moduleInstalled, installed: c, keepLive: true},
			deployment{phase: deploymentGuarded, live: c, fallback: b, replaced: 2},
			[]*module{a},
		},
		{
			"guarded, revoke", guarded,
			deploymentChange{event: fallbackRevoked},
			live,
			[]*module{a},
		},
		{"guarded, remove", guarded, deploymentChange{event: pluginRemoved}, removed, []*module{b, a}},
		{
			"removed, install", removed,
			deploymentChange{event: moduleInstalled, installed: c},
			removed,
			[]*module{c},
		},
		{"removed, revoke", removed, deploymentChange{event: fallbackRevoked}, removed, nil},

		{"pending, canary", pending, deploymentChange{event: canaryStarted, canary: tenth}, pending, []*module{d}},
		{"pending, resize", pending, deploymentChange{event: canaryResized, canary: half}, pending, nil},
		{"pending, end", pending, deploymentChange{event: canaryEnded}, pending, nil},
		{"live, canary", live, deploymentChange{event: canaryStarted, canary: tenth}, canary, nil},
		{"live, resize", live, deploymentChange{event: canaryResized, canary: half}, live, nil},
		{"live, end", live, deploymentChange{event: canaryEnded}, live, nil},
		{"guarded, canary", guarded, deploymentChange{event: canaryStarted, canary: tenth}, guardedCanary, nil},
		{"guarded, resize", guarded, deploymentChange{event: canaryResized, canary: half}, guarded, nil},
		{"guarded, end", guarded, deploymentChange{event: canaryEnded}, guarded, nil},
		{
			"canary, another one", canary,
			deploymentChange{event: canaryStarted, canary: other},
			deployment{phase: deploymentCanary, live: b, canary: other, replaced: 1},
			[]*module{d},
		},
		{
			"canary, resize", canary,
			deploymentChange{event: canaryResized, canary: half},
			deployment{phase: deploymentCanary, live: b, canary: half, replaced: 1},
			nil,
		},
		{"canary, end", canary, deploymentChange{event: canaryEnded}, live, []*module{d}},
		{"canary with a fallback, end", guardedCanary, deploymentChange{event: canaryEnded}, guarded, []*module{d}},
		{
			"canary, install: the candidate stays", canary,
			deploymentChange{event: moduleInstalled, installed: c},
			deployment{phase: deploymentCanary, live: c, canary: tenth, replaced: 2},
			[]*module{b},
		},
		{
			"canary, install and keep", canary,
			deploymentChange{event: moduleInstalled, installed: c, keepLive: true},
			deployment{phase: deploymentCanary, live: c, fallback: b, canary: tenth, replaced: 2},
			nil,
		},
		{"canary with a fallback, revoke", guardedCanary, deploymentChange{event: fallbackRevoked}, canary, []*module{a}},
		{"canary, revoke", canary, deploymentChange{event: fallbackRevoked}, canary, nil},
		{
			"canary, remove", guardedCanary,
			deploymentChange{event: pluginRemoved},
			removed,
			[]*module{b, a, d},
		},
		{"removed, canary", removed, deploymentChange{event: canaryStarted, canary: tenth}, removed, []*module{d}},
		{"removed, resize", removed, deploymentChange{event: canaryResized, canary: half}, removed, nil},
		{"removed, end", removed, deploymentChange{event: canaryEnded}, removed, nil},
		{"removed, remove", removed, deploymentChange{event: pluginRemoved}, removed, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			after, retired := tc.before.next(tc.change)
			if after != tc.after {
				t.Errorf("%+v becomes %+v, want %+v", tc.before, after, tc.after)
			}
			if !slices.Equal(retired, tc.retired) {
				t.Errorf("%d modules are retired, want %d", len(retired), len(tc.retired))
			}
		})
	}
}

// A spare instance ends the pause after a failed build of another one: the call that asks for an instance gets the
// spare.
func TestSpareInstanceIsUsedDuringPause(t *testing.T) {
	m := &module{supply: newSupply(), env: &environment{now: time.Now}}
	m.supply.state = supplyState{phase: supplyPaused, failedBuilds: 1, retryAt: time.Now().Add(time.Hour)}
	if phase := m.requestInstance(); phase != supplyPaused {
		t.Errorf("without a spare the phase is %d, want paused", phase)
	}
	m.supply.spare <- &instance{}
	if phase := m.requestInstance(); phase != supplyIdle {
		t.Errorf("with a spare the phase is %d, want idle", phase)
	}
}
