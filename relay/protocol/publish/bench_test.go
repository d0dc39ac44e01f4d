package publish

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
)

// batchOf returns the body of a batch of n messages of about 130 bytes, for 50 groups.
func batchOf(n int) string {
	var messages []string
	for i := range n {
		messages = append(messages, fmt.Sprintf(
			`{"group": "orders-%d", "type": "order.changed", "data": {"id": %d, "state": "paid", "note": "%s"}}`,
			i%50, i, strings.Repeat("x", 60)))
	}
	return `{"messages": [` + strings.Join(messages, ", ") + `]}`
}

// BenchmarkParse parses batches; the time is that of a whole batch.
func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			body := []byte(batchOf(n))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := parse(body, 1000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEndpoint serves requests to a layer that only records; the time is that of a whole batch.
func BenchmarkEndpoint(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e, l := newEndpoint(b)
			body := batchOf(n)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/", strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer "+testSecret)
				r.Header.Set("Content-Type", "application/json")
				w := httptest.NewRecorder()
				if e.ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
				l.mu.Lock()
				l.sent = l.sent[:0]
				l.mu.Unlock()
			}
		})
	}
}
