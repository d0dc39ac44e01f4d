//go:build soak

package soak

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// publisher publishes by HTTP with idempotency keys, and sends one publication in ten twice.
type publisher struct {
	s           *site
	sent, again atomic.Int64
}

func (p *publisher) publish(e numbered) error {
	body, err := json.Marshal(map[string]any{
		"group": fmt.Sprint("system_job_events-", e.group), "text": string(e.text),
		"id": fmt.Sprintf("play-%d-%d-%d", e.play, e.group, e.n),
	})
	if err != nil {
		return err
	}
	times := 1
	if e.n%10 == 0 {
		times = 2
	}
	for range times {
		if err := p.post(body); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) post(body []byte) error {
	req, err := http.NewRequest(http.MethodPost, p.s.ring.URL+"/edgerelay/publish", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+publishKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	var result struct{ Published, Deduplicated int64 }
	if err == nil {
		err = json.Unmarshal(answer, &result)
	}
	p.sent.Add(result.Published)
	p.again.Add(result.Deduplicated)
	return err
}

func (p *publisher) work() []count {
	return []count{{name: "published by HTTP", n: p.sent.Load()}, {name: "of them twice", n: p.again.Load()}}
}
