//go:build linux

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestCurveIsATableAndCharts(t *testing.T) {
	for _, log := range []bool{true, false} {
		c := curve{
			Name: "c", Title: "T", X: "clients", Log: log, Columns: []string{"a < b", "c"},
			Points: []point{{X: 1, Values: []float64{0, 20}}, {X: 100, Values: []float64{0.05, 2000}}, {X: 1000, Note: "not measured"}},
			Charts: []curveChart{{"T", "ms & s", []int{0, 1}}},
		}
		var b strings.Builder
		c.markdown(&b)
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, "|") && strings.Count(line, "|") != 4 {
				t.Errorf("uneven: %s", line)
			}
		}
		svg := c.svg(c.Charts[0])
		if bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("logarithmic %v: places that are none:\n%s", log, svg)
		}
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestEnduranceVerdict(t *testing.T) {
	flat := point{Values: []float64{6, 60, 20, 14, 0}}
	e := endurance{curve: curve{Columns: make([]string, enduranceColumns)}}
	for range 6 {
		e.curve.Points = append(e.curve.Points, flat)
	}
	if err := e.verdict(); err != nil {
		t.Errorf("flat, and yet: %v", err)
	}
	for i, grown := range []float64{9, 90, 40, 30, 3} {
		leak := endurance{curve: curve{Columns: e.curve.Columns, Points: append([]point(nil), e.curve.Points...)}}
		worse := append([]float64(nil), flat.Values...)
		worse[i] = grown
		leak.curve.Points[5] = point{Values: worse}
		if leak.verdict() == nil {
			t.Errorf("figure %d grew to %v and passes", i, grown)
		}
	}
}

func TestStormVerdict(t *testing.T) {
	good := results{Rows: []row{{System: "edgerelay-redis", Kind: kindStorm, Users: 100, Seconds: 6, Questions: 200}, {System: "edgerelay-redis", Kind: kindSwitch, Groups: 50, RedisCommands: 500}}}
	if errs := good.stormVerdict(); len(errs) > 0 {
		t.Error(errs)
	}
	bad := results{Rows: []row{{System: "edgerelay-redis", Kind: kindStorm, Users: 100, Seconds: 4, Questions: 101}, {System: "edgerelay-redis", Kind: kindSwitch, Groups: 50, RedisCommands: 20_000}}}
	if errs := bad.stormVerdict(); len(errs) != 2 {
		t.Errorf("two are too dear, told: %v", errs)
	}
}
