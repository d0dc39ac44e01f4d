package pluginhost

import "testing"

func TestDecide(t *testing.T) {
	one := &entry{Version: 1, ID: "a", Hash: "m1", Files: []string{"f1"}}
	two := &entry{Version: 2, ID: "b", Hash: "m2", Files: []string{"f1", "f2"}}
	undone := &entry{Version: 3, ID: "c", Hash: "f1", Undeployed: true}
	lower := &entry{Version: 1, ID: "d", Hash: "m3", Files: []string{"f1"}}
	unversioned := &entry{Version: 1, ID: "unversioned-m1-7", Hash: "m1"}
	never := nodeState{}
	none := nodeState{File: "f1", Runs: FromFile}
	applied := nodeState{ID: "a", Version: 1, File: "f1", Runs: FromDeploy}
	overtaken := nodeState{ID: "a", Version: 1, File: "f2", Runs: FromFile}
	for name, c := range map[string]struct {
		state   nodeState
		current *entry
		file    string
		want    Source
		next    nodeState
	}{
		"no deployment":                        {never, nil, "f1", FromFile, none},
		"no deployment, file changes":          {none, nil, "f2", FromFile, nodeState{File: "f2", Runs: FromFile}},
		"deployment":                           {none, one, "f1", FromDeploy, applied},
		"restart":                              {applied, one, "f1", FromDeploy, applied},
		"file changes after the deployment":    {applied, one, "f2", FromFile, overtaken},
		"restart after the file has changed":   {overtaken, one, "f2", FromFile, overtaken},
		"file is changed back":                 {overtaken, one, "f1", FromFile, nodeState{"a", 1, "f1", FromFile}},
		"file is being replaced":               {applied, one, "", FromDeploy, applied},
		"file that took over is missing":       {overtaken, one, "", FromDeploy, overtaken},
		"next deployment":                      {applied, two, "f1", FromDeploy, nodeState{"b", 2, "f1", FromDeploy}},
		"next deployment over a changed file":  {overtaken, two, "f2", FromDeploy, nodeState{"b", 2, "f2", FromDeploy}},
		"deployment while the node was down":   {applied, two, "f3", FromDeploy, nodeState{"b", 2, "f3", FromDeploy}},
		"undeployment":                         {applied, undone, "f1", FromFile, nodeState{"c", 3, "f1", FromFile}},
		"undeployment, new container":          {never, undone, "f9", FromFile, nodeState{"c", 3, "f9", FromFile}},
		"new container, same image":            {never, one, "f1", FromDeploy, applied},
		"new container, next image":            {never, one, "f2", FromFile, overtaken},
		"new container, image of another node": {never, two, "f2", FromDeploy, nodeState{"b", 2, "f2", FromDeploy}},
		"new container without a file":         {never, one, "", FromDeploy, nodeState{"a", 1, "", FromDeploy}},
		"file appears later": {
			nodeState{"a", 1, "", FromDeploy}, one, "f9", FromFile, nodeState{"a", 1, "f9", FromFile},
		},
		"known file appears later": {
			nodeState{"a", 1, "", FromDeploy}, one, "f1", FromDeploy, applied,
		},
		"record of an earlier edgerelay": {
			never, unversioned, "f1", FromDeploy, nodeState{unversioned.ID, 1, "f1", FromDeploy},
		},
		"storage lost":              {applied, nil, "f1", FromFile, applied},
		"storage lost, then back":   {applied, one, "f1", FromDeploy, applied},
		"storage lost, then deploy": {nodeState{"b", 2, "f1", FromDeploy}, lower, "f1", FromDeploy, nodeState{"d", 1, "f1", FromDeploy}},
		"storage restored from a backup": {
			nodeState{"b", 2, "f1", FromDeploy}, one, "f1", FromDeploy, applied,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, next := decide(c.state, c.current, c.file)
			if got != c.want || next != c.next {
				t.Errorf("got %s, %+v, want %s, %+v", got, next, c.want, c.next)
			}
			// A restart at any time decides alike.
			if again, same := decide(next, c.current, c.file); c.file != "" && (again != got || same != next) {
				t.Errorf("after a restart: %s, %+v", again, same)
			}
		})
	}
}

// A node that sees a sequence of acts decides at every step like a node that restarts at every step.
func TestDecisionsDoNotDependOnRestarts(t *testing.T) {
	one := &entry{Version: 1, ID: "a", Hash: "m1", Files: []string{"f1"}}
	two := &entry{Version: 2, ID: "b", Hash: "m2", Undeployed: true}
	three := &entry{Version: 3, ID: "c", Hash: "m3", Files: []string{"f2"}}
	files := []string{"f1", "f2", ""}
	entries := []*entry{nil, one, two, three}
	var walk func(s nodeState, at, depth int)
	walk = func(s nodeState, at, depth int) {
		if depth == 0 {
			return
		}
		for _, f := range files {
			for i := at; i < len(entries); i++ { // a record never goes back
				from, next := decide(s, entries[i], f)
				for range 3 {
					if again, same := decide(next, entries[i], f); again != from || same != next {
						t.Fatalf("%+v with %+v and %q: %s, then %s", s, entries[i], f, from, again)
					}
				}
				walk(next, i, depth-1)
			}
		}
	}
	walk(nodeState{}, 0, 4)
}

func TestCandidates(t *testing.T) {
	one := &entry{Version: 1, ID: "a", Hash: "m1", Files: []string{"f1"}}
	two := &entry{Version: 2, ID: "b", Hash: "m2", Files: []string{"f1"}}
	undone := &entry{Version: 3, ID: "c", Undeployed: true}
	text := func(list []candidate) (out string) {
		for _, c := range list {
			if out += " " + string(c.from); c.entry != nil {
				out += c.entry.ID
			}
		}
		return out
	}
	for name, c := range map[string]struct {
		state   nodeState
		history []*entry
		file    string
		want    string
	}{
		"file alone":                     {nodeState{}, nil, "f1", " file"},
		"no file":                        {nodeState{}, nil, "", " file"},
		"new image that may be refused":  {nodeState{}, []*entry{one}, "f2", " file deploya"},
		"changed file":                   {nodeState{"a", 1, "f1", FromDeploy}, []*entry{one}, "f2", " file deploya"},
		"first deployment of a new node": {nodeState{}, []*entry{one}, "f1", " deploya"},
		"first deployment":               {nodeState{"", 0, "f1", FromFile}, []*entry{one}, "f1", " deploya file"},
		"second deployment":              {nodeState{"a", 1, "f1", FromDeploy}, []*entry{one, two}, "f1", " deployb deploya"},
		"second deployment over a changed file": {
			nodeState{"a", 1, "f1", FromDeploy}, []*entry{one, two}, "f2", " deployb file deploya",
		},
		"undeployment": {nodeState{"a", 1, "f1", FromDeploy}, []*entry{one, undone}, "f1", " file deploya"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(candidates(c.state, &record{History: c.history}, c.file)); got != c.want {
				t.Errorf("got%s, want%s", got, c.want)
			}
		})
	}
}
