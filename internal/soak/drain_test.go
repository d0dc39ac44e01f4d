//go:build soak

package soak

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/edgerelay/edgerelay/internal/testkit"
)

// drainNear moves the clients of the neighbor to other nodes.
func (tr *trouble) drainNear() {
	admin := tr.s.near.Admin + "/edgerelay/drain"
	resp, err := http.Post(admin, "application/json", strings.NewReader(`{"duration": "1s"}`))
	if err != nil {
		tr.s.fault("drain: %v", err)
		return
	}
	_ = resp.Body.Close()
	var status struct {
		State   string
		Clients int64
	}
	err = testkit.Poll(testkit.Patience, nil, func() error {
		text, err := get(admin)
		if err == nil {
			err = json.Unmarshal([]byte(text), &status)
		}
		if err == nil && status.State != "drained" {
			err = fmt.Errorf("%+v", status)
		}
		return err
	})
	if err != nil {
		tr.s.fault("drain: clients stay: %v", err)
	}
	tr.drained.Add(status.Clients)
	req, err := http.NewRequest(http.MethodDelete, admin, nil)
	if err == nil {
		resp, err = http.DefaultClient.Do(req)
	}
	if err != nil {
		tr.s.fault("drain: canceling: %v", err)
		return
	}
	_ = resp.Body.Close()
}
