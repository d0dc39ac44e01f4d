//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestCurveIsATable(t *testing.T) {
	c := curve{
		Name: "c", Title: "T", X: "clients", Columns: []string{"a < b", "c"},
		Points: []point{
			{X: 1, Values: []float64{0, 20}},
			{X: 100, Values: []float64{0.05, 2000}},
			{X: 1000, Note: "not measured"},
		},
	}
	var b strings.Builder
	c.markdown(&b)
	rows := 0
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "|") {
			rows++
			if strings.Count(line, "|") != 4 {
				t.Errorf("uneven: %s", line)
			}
		}
	}
	if rows != 5 {
		t.Errorf("%d rows, want head, rule and 3 points:\n%s", rows, &b)
	}
}

func TestStormVerdict(t *testing.T) {
	good := results{Rows: []row{
		{System: "edgerelay-redis", Kind: kindStorm, Users: 100, Seconds: 6, Questions: 200},
		{System: "edgerelay-redis", Kind: kindSwitch, Groups: 50, RedisCommands: 500},
	}}
	if errs := good.stormVerdict(); len(errs) > 0 {
		t.Error(errs)
	}
	bad := results{Rows: []row{
		{System: "edgerelay-redis", Kind: kindStorm, Users: 100, Seconds: 4, Questions: 101},
		{System: "edgerelay-redis", Kind: kindSwitch, Groups: 50, RedisCommands: 20_000},
	}}
	if errs := bad.stormVerdict(); len(errs) != 2 {
		t.Errorf("two are too dear, told: %v", errs)
	}
}
