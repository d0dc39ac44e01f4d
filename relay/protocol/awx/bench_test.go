package awx

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkMessage parses the message of a page of jobs, the same one with an escape, which parsePlain does not handle,
// and one with a hundred groups.
func BenchmarkMessage(b *testing.B) {
	var ids []string
	for i := range 100 {
		ids = append(ids, fmt.Sprint(1000+i))
	}
	const token = `, "xrftoken": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4"}`
	const page = `{"groups": {"jobs": ["status_changed", "summary"], "control": ["limit_reached_1"], "job_events": [4242]}` + token
	for name, text := range map[string]string{
		"page":    page,
		"escaped": strings.Replace(page, "summary", `s\u0075mmary`, 1),
		"hundred": `{"groups": {"job_events": [` + strings.Join(ids, ", ") + `]}` + token,
	} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(text)
			b.ReportAllocs()
			for b.Loop() {
				m, err := parseMessage(raw)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := m.groupRequests(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
