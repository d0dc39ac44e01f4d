package cli

import (
	"cmp"
	"fmt"

	"github.com/edgerelay/edgerelay/plugins"
)

// callHooks are the hooks of functions in recordings.
const callHooks = plugins.OnConnect | plugins.OnMessage | plugins.OnClose | plugins.OnResult | plugins.OnAlarm

// isCall reports whether a sample is the call of a function's hook.
func isCall(s *plugins.Sample) bool { return s.Hook&callHooks != 0 }

// callName names a call for people.
func callName(s *plugins.Sample) string {
	about := ""
	if f := s.Function; f != nil {
		about = cmp.Or(f.Client, f.Name, f.Then)
	}
	return fmt.Sprintf("%s  %s", s.Hook, about)
}

// replayCall takes a call of a function through all versions, and shows a difference from the recording, or with two
// versions between them.
func (r *replay) replayCall(line int, s *plugins.Sample) {
	results := make([]plugins.Delivery, len(r.versions))
	skipped := false
	for i, v := range r.versions {
		results[i] = v.trial.Deliver(s, nil)
		if results[i].Skipped {
			skipped = true
			continue
		}
		v.count(line, "", &results[i])
	}
	if r.clients == nil {
		r.clients = map[string]bool{}
	}
	client := ""
	if s.Function != nil {
		client = s.Function.Client
	}
	r.clients[client] = r.clients[client] || false
	if skipped {
		r.skipped++
		return
	}
	var details []string
	if len(results) == 1 {
		details = s.CompareFunction(&results[0].Trace, r.ignore, maxDifferencesShown)
	} else {
		details = results[0].CompareFunction(&results[1].Trace, r.ignore, maxDifferencesShown)
	}
	if details != nil {
		r.differ++
		r.clients[client] = true
		r.showEvent(line, s, results, details)
	}
}

// things names what a recording has.
func (r *replay) things() string {
	if r.clients != nil {
		return "calls"
	}
	return "events"
}

// writeConversations writes the sums of the calls of functions.
func (r *replay) writeConversations() {
	differ := 0
	for client, differs := range r.clients {
		if differs && client != "" {
			differ++
		}
	}
	conversations := len(r.clients)
	if _, without := r.clients[""]; without {
		conversations--
	}
	fmt.Fprintf(r.w, "%d calls differ, in %d of %d conversations\n", r.differ, differ, conversations)
	if r.skipped > 0 {
		fmt.Fprintf(r.w, "%d calls are left out: the module has rejected or closed the client, or has not made the request\n",
			r.skipped)
	}
}
