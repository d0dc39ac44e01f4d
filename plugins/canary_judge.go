package plugins

import (
	"fmt"
	"math"
	"time"
)

const (
	// minCanaryFaults is the least number of failures, or of differing decisions, that count.
	minCanaryFaults = 2
	// minCanaryTimed is the least number of events of each module for a comparison of their durations, and
	// minCanaryTail the least number for a comparison of the slow ones.
	minCanaryTimed, minCanaryTail = 50, 200
	// leastSlowdown is the difference of durations below which a candidate is not slow: short calls vary with the state
	// of the processor's caches.
	leastSlowdown = 20 * time.Microsecond
)

// judgeCanary returns the fault of a candidate by the counts of a time, empty if there is none or if there were too few
// events to tell.
// See docs/decisions/plugins.md#how-is-a-candidate-judged
func judgeCanary(c *canaryCounts, limits *CanaryLimits) string {
	if limits.MaxDiffer != nil && exceeds(c.differ, c.same+c.differ, *limits.MaxDiffer) {
		return fmt.Sprintf("%d of %d decisions beside the stable module differed, more than %s",
			c.differ, c.same+c.differ, percent(*limits.MaxDiffer))
	}
	for _, of := range []struct {
		name              string
		candidate, stable *callCounts
	}{
		{"events", &c.candidate, &c.stable},
		{"calls of on_class", &c.classes.candidate, &c.classes.stable},
		{"calls of on_subscribe", &c.subscribes.candidate, &c.subscribes.stable},
	} {
		if fault := judgeCalls(of.name, of.candidate, of.stable, limits); fault != "" {
			return fault
		}
	}
	return ""
}

// judgeCalls judges the calls with a name.
func judgeCalls(name string, of, stable *callCounts, limits *CanaryLimits) string {
	if exceeds(of.failures, of.calls, limits.MaxErrors) &&
		shareOf(of.failures, of.calls) > shareOf(stable.failures, stable.calls) {
		return fmt.Sprintf("%d of %d %s failed, more than %s; of the stable module's, %d of %d",
			of.failures, of.calls, name, percent(limits.MaxErrors), stable.failures, stable.calls)
	}
	if limits.MaxSlowdown > 0 {
		return judgeSlowness(name, of, stable, limits.MaxSlowdown)
	}
	return ""
}

// judgeSlowness compares the median durations, and those of the slowest tenth.
func judgeSlowness(calls string, candidate, stable *callCounts, most float64) string {
	for _, of := range []struct {
		share float64
		name  string
		least uint64
	}{{0.5, "half", minCanaryTimed}, {0.9, "nine in ten", minCanaryTail}} {
		if candidate.timed() < of.least || stable.timed() < of.least {
			continue
		}
		took, usual := candidate.quantile(of.share), stable.quantile(of.share)
		if took-usual >= leastSlowdown && float64(took) > most*float64(usual) {
			return fmt.Sprintf("%s of the %s took up to %v, more than %g times as long as the stable module's %v",
				of.name, calls, took.Round(time.Microsecond), most, usual.Round(time.Microsecond))
		}
	}
	return ""
}

// exceeds reports whether a share is beyond a limit for certain: whether the lower bound of its confidence interval is,
// after Wilson, with a chance of 1 in 200 of an error. The bound is low if there are few events.
func exceeds(n, of uint64, limit float64) bool {
	if n < minCanaryFaults || of == 0 {
		return false
	}
	const z = 2.576
	total, p := float64(of), shareOf(n, of)
	center := p + z*z/(2*total)
	margin := z * math.Sqrt(p*(1-p)/total+z*z/(4*total*total))
	return (center-margin)/(1+z*z/total) > limit
}

// shareOf returns n/of, 0 for none.
func shareOf(n, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return min(float64(n)/float64(of), 1)
}

func percent(share float64) string { return fmt.Sprintf("%g%%", math.Round(1e6*share)/1e4) }
