package plugins

import "fmt"

// Render returns the payload that subscribers of a class, 0 to 63, get of an Output with PerClass set. ev has the
// Output's group and payload, and the Source, Sent and Position of the original event. Render reports false if the
// subscribers get nothing, ErrReclassified if the Output's generation is outdated or other plugins have on_class by
// now, for an event of a replay ErrWithheld if a plugin failed, and another error for any other class. The result may
// share the argument's bytes.
func (p *Pipeline) Render(class uint8, ev Event, of *Output) (rendered []byte, ok bool, err error) {
	if class > maxClass {
		return nil, false, fmt.Errorf("render for class %d: classes are 0 to %d", class, maxClass)
	}
	for {
		current := p.routes.Load()
		rt := current.find(ev.Group)
		switch res, by := rt.render(class, ev); {
		case !res.removed:
			if rt.liveGeneration() != of.Generation ||
				res.verdict != Drop && (by.generation != of.Generation || by.renderers != of.renderers) {
				return nil, false, ErrReclassified
			}
			switch f := p.onWithheld.Load(); {
			case res.withheld && ev.isReplay():
				return nil, false, ErrWithheld
			case res.withheld && f != nil:
				(*f)(ev.Group, ev.Position)
			}
			return res.payload, res.verdict != Drop, nil
		case p.routes.Load() == current && ev.isReplay():
			return nil, false, ErrClosed
		case p.routes.Load() == current: // the pipeline is being closed
			return nil, false, nil
		}
	}
}

// render renders an event with the plugins of a route, and identifies the modules that have rendered like
// [subscribers]. The result is marked removed if a plugin was removed meanwhile.
func (rt *route) render(class uint8, ev Event) (_ result, by subscribers) {
	for i := range rt.steps {
		s := &rt.steps[i]
		if s.shadow {
			continue
		}
		res := s.render(rt.hash, class, &ev)
		switch {
		case res.removed, res.verdict == Drop:
			return res, by
		case res.verdict == Replace:
			ev.Payload = res.payload
		}
		by.passed(s.plugin, res.by)
	}
	return result{payload: ev.Payload}, by
}
