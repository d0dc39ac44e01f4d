package state

import (
	"context"
	"time"
)

// firing is an alarm that this node has claimed.
type firing struct {
	*Alarms
	plugin string
	claim
	token string
	lease time.Duration // of the claim, also if that of the settings has changed since
}

// fire has the plugin process an alarm that was claimed by a request at a time.
func (a *Alarms) fire(l *line, f *firing, claimed time.Time) {
	defer func() {
		a.mu.Lock()
		l.firing--
		a.mu.Unlock()
		a.kick()
	}()
	stats := &a.store.stats
	if f.moved {
		stats.moved.Add(1)
	}
	select {
	case <-a.stopping:
		f.end(opRetry, 0, 1)
		return
	default:
	}
	switch {
	case f.attempts > a.settings.Attempts: // The last attempt did not end.
		f.drop("the node stopped during the last attempt")
		return
	case time.Since(claimed) > startWindow*9/10: // The claim may have been replaced, and the replacement acknowledged.
		f.end(opRetry, 0, 1)
		return
	}
	err := f.call()
	switch {
	case err == nil:
		stats.fired.Add(1)
		f.end(opFinish, 0, 0)
		return
	case a.ctx.Err() != nil: // The node stops.
		f.end(opRetry, 0, 1)
		return
	}
	stats.failed.Add(1)
	if f.attempts >= a.settings.Attempts {
		f.drop(err.Error())
		return
	}
	pause := min(time.Second<<(f.attempts-1), retryMax)
	a.settings.Log.Warn("alarm failed, fires again", "plugin", f.plugin, "alarm", f.name, "error", err,
		"attempts", f.attempts, "duration", pause)
	f.end(opRetry, pause, 0)
}

// call has the plugin process the alarm, and renews the lease meanwhile.
func (f *firing) call() error {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	renewed := make(chan struct{})
	defer func() { <-renewed }()
	defer cancel()
	go func() {
		defer close(renewed)
		tick := time.NewTicker(f.lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				f.start(opRenew, f.lease, 0, func(Response) {})
			}
		}
	}()
	return f.settings.Fire(ctx, f.plugin, f.name, f.payload)
}

// drop gives up an alarm.
func (f *firing) drop(reason string) {
	f.store.stats.dropped.Add(1)
	f.settings.Log.Error("alarm dropped after last attempt", "plugin", f.plugin, "alarm", f.name,
		"attempts", f.settings.Attempts, "error", reason, "remedy", "correct the plugin, and set the alarm again")
	f.end(opFinish, 0, 0)
}

func (f *firing) start(op Op, after time.Duration, uncounted int, done func(Response)) {
	f.store.place.start(&Request{
		Plugin: f.plugin, Op: op, Key: f.name, Delta: after.Milliseconds(), Limit: uncounted, token: f.token,
	}, done)
}

// end ends the claim. While Redis is unavailable, it tries again until the lease ends: an alarm whose claim is not
// ended fires once more. Replaced alarms have other claims, so a repetition is harmless.
func (f *firing) end(op Op, after time.Duration, uncounted int) {
	for until := time.Now().Add(f.lease); ; {
		answered := make(chan Response, 1)
		f.start(op, after, uncounted, func(res Response) { answered <- res })
		if res := <-answered; res.Status != Unavailable {
			return
		}
		select {
		case <-f.ctx.Done():
			return
		case <-f.stopping:
			return
		case <-time.After(rereadInterval):
			if time.Now().After(until) {
				return
			}
		}
	}
}
