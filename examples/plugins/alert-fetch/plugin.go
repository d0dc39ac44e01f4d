// Command alert-fetch is an edgerelay plugin that makes a message in Slack of each job of AWX that fails. One of all
// nodes sends it, whether browsers are open or not.
package main

import (
	"strconv"

	edgerelay "github.com/edgerelay/edgerelay/sdk/go"
)

//go:wasmexport ev_on_event
func OnEvent(group, payload uint32) uint64 { return edgerelay.OnEvent(group, payload, alert) }

func alert(e *edgerelay.Event) edgerelay.Verdict {
	job, ok := e.Int("unified_job_id")
	if !ok || e.Source() == "history" || !e.Is("status", "failed") && !e.Is("status", "error") {
		return edgerelay.Pass
	}
	status, _ := e.Text("status")
	webhook, _ := edgerelay.ConfigText("webhook")
	site, _ := edgerelay.ConfigText("site")
	what := "job " + strconv.FormatInt(job, 10) + " ended: " + status
	text := what + " " + site + "/#/jobs/playbook/" + strconv.FormatInt(job, 10)
	if err := edgerelay.Fetch(edgerelay.HTTPRequest{
		URL: webhook, Header: []string{"Content-Type", "application/json"}, Body: edgerelay.Object("text", text), Once: what,
	}); err != nil {
		return edgerelay.Fail(err.Error())
	}
	return edgerelay.Pass
}

func main() {}
