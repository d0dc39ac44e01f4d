package backplane

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// maxSightings bounds the nodes that are kept for one discovery.
	maxSightings = 1000
	// unseenWait is the time after which a node that no answer names is left although its link is healthy.
	unseenWait = 30 * time.Minute
)

// sightings are the nodes of a [Patient] discovery. An answer may leave out nodes that exist: the node is kept while a
// link shows that it exists, and for several answers without a link. It is not safe for concurrent use.
// See docs/decisions/backplane.md#when-is-a-node-left-that-discovery-no-longer-reports
type sightings struct {
	source   string
	patience int
	nodes    map[string]*sighting // by canonical URL
}

// sighting is a node that was found.
type sighting struct {
	target Target
	seen   time.Time // the last answer with the node
	missed int       // answers without the node, since the last answer with it or the end of its link
	gone   bool      // the node has withdrawn itself
}

func newSightings(d Patient) *sightings {
	return &sightings{source: d.Source(), patience: max(1, d.Patience()), nodes: map[string]*sighting{}}
}

// record applies an answer. linked reports whether there is a link to the node behind a URL.
func (s *sightings) record(answer []Target, linked func(url string) bool, now time.Time) {
	named := map[string]Target{}
	for _, t := range answer {
		t.URL = canonicalURL(t.URL)
		if other, ok := named[t.URL]; ok {
			t = mergeTargets(t, other)
		}
		named[t.URL] = t
	}
	for url, node := range s.nodes {
		t, ok := named[url]
		switch {
		case ok && !t.Gone:
			node.target, node.seen, node.missed, node.gone = t, now, 0, false
			continue
		case ok:
			node.gone = true
		}
		switch {
		case linked(url):
			if node.missed = 0; now.Sub(node.seen) > unseenWait {
				delete(s.nodes, url)
			}
		case node.gone:
			delete(s.nodes, url)
		default:
			if node.missed++; node.missed >= s.patience {
				delete(s.nodes, url)
			}
		}
	}
	s.add(named, linked, now)
}

// add adds the nodes that are new. If there are too many, nodes that are missing from answers make room.
func (s *sightings) add(named map[string]Target, linked func(url string) bool, now time.Time) {
	var missing []string // the next to forget is the last
	for _, url := range slices.Sorted(maps.Keys(named)) {
		if s.nodes[url] != nil || named[url].Gone {
			continue
		}
		if len(s.nodes) >= maxSightings {
			if missing == nil {
				missing = s.missing(linked)
			}
			if len(missing) == 0 {
				return
			}
			delete(s.nodes, missing[len(missing)-1])
			missing = missing[:len(missing)-1]
		}
		s.nodes[url] = &sighting{target: named[url], seen: now}
	}
}

// missing lists the nodes without a link that the last answer left out, those that are missing for longest last.
func (s *sightings) missing(linked func(url string) bool) []string {
	urls := []string{}
	for url, node := range s.nodes {
		if node.missed > 0 && !linked(url) {
			urls = append(urls, url)
		}
	}
	slices.SortFunc(urls, func(x, y string) int {
		return cmp.Or(cmp.Compare(s.nodes[x].missed, s.nodes[y].missed), cmp.Compare(x, y))
	})
	return urls
}

// adopt takes over the nodes of a discovery that asked the same source, such as with another interval.
func (s *sightings) adopt(other *sightings) {
	for url, node := range other.nodes {
		if s.nodes[url] == nil && len(s.nodes) < maxSightings {
			s.nodes[url] = node
		}
	}
}

// targets lists the nodes to dial.
func (s *sightings) targets() []Target {
	targets := make([]Target, 0, len(s.nodes))
	for _, node := range s.nodes {
		targets = append(targets, node.target)
	}
	return targets
}

// mergeTargets returns the target for a node that was found twice. The order must not matter.
func mergeTargets(t, other Target) Target {
	t.Found = t.Found && other.Found
	t.Gone = t.Gone && other.Gone
	t.Dialect = max(t.Dialect, other.Dialect) // Auto sorts before the other dialects of a target
	return t
}

// setFound records an answer of a discovery. b.mu is held.
func (b *Backplane) setFound(key string, d Discovery, answer []Target) {
	patient, ok := d.(Patient)
	if !ok {
		b.found[key] = slices.DeleteFunc(slices.Clone(answer), func(t Target) bool { return t.Gone })
		return
	}
	s := b.sightings[key]
	if s == nil {
		s = newSightings(patient)
		for old, other := range b.sightings {
			if other.source == s.source && b.discoveries[old] == nil {
				s.adopt(other)
			}
		}
		b.sightings[key] = s
	}
	s.record(answer, func(url string) bool {
		d := b.dialers[url]
		return d != nil && d.linked()
	}, time.Now())
	b.found[key] = s.targets()
}
