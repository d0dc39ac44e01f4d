package awx

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkMessage reads a client's message: the one of a page of jobs, and one with a hundred groups.
func BenchmarkMessage(b *testing.B) {
	var ids []string
	for i := range 100 {
		ids = append(ids, fmt.Sprint(1000+i))
	}
	for name, text := range map[string]string{
		"page":    `{"groups": {"jobs": ["status_changed", "summary"], "control": ["limit_reached_1"], "job_events": [4242]}, "xrftoken": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"}`,
		"hundred": `{"groups": {"job_events": [` + strings.Join(ids, ", ") + `]}, "xrftoken": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"}`,
	} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				m, err := parseMessage(raw)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := m.wishes(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
