package e2e

import . "github.com/edgerelay/edgerelay/internal/e2e/peers"

const (
	strictRule = "a strict mode, on by default, also for project_update_events, inventory_update_events, system_job_events and control-limit_reached_<own id only>"
	nameRule   = "Names of groups: ASCII letters, digits, -, _, .; fewer than 100 characters"
)

// Who may see what.
var accessScenes = []scene{
	{"objects that the user may see", []step{
		open(Alice),
		subscribe(`{"job_events": [42, 44], "workflow_events": [7], "ad_hoc_command_events": [5]}`),
		answer("job_events-42 job_events-44 workflow_events-7 ad_hoc_command_events-5", "",
			"job_events-42 job_events-44 workflow_events-7 ad_hoc_command_events-5"),
	}},
	{"a superuser may see them all", []step{
		open(Admin),
		subscribe(`{"job_events": [42, 43, 44], "workflow_events": [8], "ad_hoc_command_events": [6]}`),
		answer("job_events-42 job_events-43 job_events-44 workflow_events-8 ad_hoc_command_events-6", "",
			"job_events-42 job_events-43 job_events-44 workflow_events-8 ad_hoc_command_events-6"),
	}},
	{"a job of others", []step{
		open(Alice),
		subscribe(`{"job_events": [43]}`), denied("job_events", "43"), answer("", "", ""),
		publish("job_events-43", "secret"),
		subscribe(`{"job_events": [42]}`), answer("job_events-42", "", "job_events-42"),
		publish("job_events-43", "secret"), publish("job_events-42", "mine"), wantText("mine"),
	}},
	{"a workflow job of others", []step{
		open(Alice),
		subscribe(`{"workflow_events": [8]}`), denied("workflow_events", "8"), answer("", "", ""),
	}},
	{"an ad hoc command of others", []step{
		open(Alice),
		subscribe(`{"ad_hoc_command_events": [6]}`), denied("ad_hoc_command_events", "6"), answer("", "", ""),
	}},
	{"a job that does not exist, even for a superuser", []step{
		open(Admin),
		subscribe(`{"job_events": [999999]}`), denied("job_events", "999999"), answer("", "", ""),
	}},
	{"the same id of another kind", []step{
		open(Bob),
		subscribe(`{"job_events": [42, 44], "jobs": [42]}`),
		denied("job_events", "42"),
		answer("job_events-44 jobs-42", "", "job_events-44 jobs-42"),
	}},
	{"several denied, the rest joined", []step{
		open(Alice),
		subscribe(`{"job_events": [43, 42, 999, 44], "jobs": ["summary"]}`),
		denied("job_events", "43"), denied("job_events", "999"),
		answer("job_events-42 job_events-44 jobs-summary", "", "job_events-42 job_events-44 jobs-summary"),
	}},
	{"denied of several kinds, in order", []step{
		open(Alice),
		subscribe(`{"workflow_events": [8], "jobs": ["summary"], "job_events": [43], "ad_hoc_command_events": [6]}`),
		denied("workflow_events", "8"), denied("job_events", "43"), denied("ad_hoc_command_events", "6"),
		answer("jobs-summary", "", "jobs-summary"),
	}},
	{"denied for each time that it is asked for", []step{
		open(Alice),
		subscribe(`{"job_events": [43, "43"]}`),
		denied("job_events", "43"), denied("job_events", "43"),
		answer("", "", ""),
	}},
	{"a denied object still replaces", []step{
		open(Alice),
		subscribe(`{"job_events": [42]}`), answer("job_events-42", "", "job_events-42"),
		subscribe(`{"job_events": [43]}`), denied("job_events", "43"), answer("", "job_events-42", ""),
	}},
	{"two users, two views", []step{
		openAs("alice", Alice), openAs("bob", Bob),
		on("alice", subscribe(`{"job_events": [42]}`), answer("job_events-42", "", "job_events-42")),
		on("bob", subscribe(`{"job_events": [42]}`), denied("job_events", "42"), answer("", "", "")),
		publish("job_events-42", "for alice"), on("alice", wantText("for alice")),
	}},
	{"updates that the user may see", []step{
		open(Alice),
		subscribe(`{"project_update_events": [3], "inventory_update_events": [3], "system_job_events": [3]}`),
		answer("project_update_events-3 inventory_update_events-3 system_job_events-3", "",
			"project_update_events-3 inventory_update_events-3 system_job_events-3"),
	}},
	{"updates of others", []step{
		open(Alice),
		subscribe(`{"project_update_events": [4], "inventory_update_events": [4], "system_job_events": [4], "jobs": ["summary"]}`),
		differs(strictRule,
			answer("project_update_events-4 inventory_update_events-4 system_job_events-4 jobs-summary", "",
				"project_update_events-4 inventory_update_events-4 system_job_events-4 jobs-summary"),
			steps(
				denied("project_update_events", "4"), denied("inventory_update_events", "4"),
				denied("system_job_events", "4"),
				answer("jobs-summary", "", "jobs-summary"))),
	}},
	{"the limits of another user", []step{
		open(Alice),
		subscribe(`{"control": ["limit_reached_1", "limit_reached_2"]}`),
		differs(strictRule,
			answer("control-limit_reached_1 control-limit_reached_2", "",
				"control-limit_reached_1 control-limit_reached_2"),
			steps(
				denied("control", "limit_reached_1"),
				answer("control-limit_reached_2", "", "control-limit_reached_2"))),
	}},
	{"the group of the backplane", []step{
		open(Alice),
		subscribe(`{"broadcast": ["group_send"]}`),
		differs("broadcast-group_send is between nodes; Channels joins it and dies of the first message between peers",
			steps(answer("broadcast-group_send", "", "broadcast-group_send"), wantClosed(1011)),
			steps(denied("broadcast", "group_send"), answer("", "", ""))),
	}},
	{"the group of the backplane under another split", []step{
		open(Alice),
		subscribe(`{"broadcast-group_send": []}`), answer("", "", ""),
	}},
	{"a string that is no id, for a kind that has ids", oddID(`"abc"`, wantClosed(1011), deniedID("abc"))},
	{"an empty string for a kind that has ids", oddID(`""`, wantClosed(1011), deniedID(""))},
	{"1e2 as a string", oddID(`"1e2"`, wantClosed(1011), deniedID("1e2"))},
	{"an underscore in a number", oddID(`"4_2"`, joinedID("4_2"), deniedID("4_2"))},
	{"a zero before a number", oddID(`"042"`, joinedID("042"), deniedID("042"))},
	{"a minus before a number", oddID(`-42`, deniedID("-42"), deniedID("-42"))},
	{"more digits than a database knows", oddID(`123456789012345678901234567890`,
		deniedID("123456789012345678901234567890"), deniedID("123456789012345678901234567890"))},
	{"1e2 as a number", oddID(`1e2`, joinedID("100.0"), wantError())},
	{"true for a kind that has ids", oddID(`true`, joinedID("True"), wantError())},
	{"null for a kind that has ids", oddID(`null`, wantClosed(1011), wantError())},
	{"a space before a number", oddID(`" 42"`, wantClosed(1011), wantError())},
	{"digits of another script", oddID(`"٤٢"`, joinedID("٤٢"), wantError())},
	{"a path in place of an id", oddID(`"42/../43"`, wantClosed(1011), wantError())},
}

// oddID asks for one odd id of job_events beside a group that is open to all. Python's
// int() takes more spellings than there are ids, and the consumer dies of the rest;
// the relay joins none of them and lives.
func oddID(item string, daphne, relay step) []step {
	return []step{
		open(Alice),
		subscribe(`{"jobs": ["summary"]}`), answer("jobs-summary", "", "jobs-summary"),
		subscribe(`{"jobs": ["summary"], "job_events": [` + item + `]}`),
		differs("AWX/Channels dies (close 1011); the relay answers {\"error\": …} and keeps the connection; ids may be numbers or strings; "+nameRule,
			daphne,
			steps(relay, publish("jobs-summary", "still here"), wantText("still here"))),
	}
}

// deniedID is the answer to [oddID] where the id is refused as any other that the user
// may not see.
func deniedID(id string) step { return steps(denied("job_events", id), answer("jobs-summary", "", "")) }

// joinedID is the answer where it passes.
func joinedID(id string) step {
	return answer("jobs-summary job_events-"+id, "", "job_events-"+id)
}
