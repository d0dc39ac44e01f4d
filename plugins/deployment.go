package plugins

// deploymentPhase is the phase of a plugin's deployment.
type deploymentPhase uint8

const (
	deploymentPending deploymentPhase = iota // no module is installed yet, and no route names the plugin
	deploymentLive                           // the live module decides
	deploymentGuarded                        // as live, and the fallback decides where the live module fails
	deploymentRemoved                        // the plugin has left the pipeline for good
)

// deployment is a state of a plugin's modules. The value is immutable: a change replaces the whole value between two
// events.
type deployment struct {
	phase    deploymentPhase
	live     *module // set while live or guarded
	fallback *module // set while guarded: the module before live, kept for on_error last_good
	replaced uint64  // how many modules another one has replaced
}

// deploymentEvent is the kind of a change to a deployment.
type deploymentEvent uint8

const (
	moduleInstalled deploymentEvent = iota
	fallbackRevoked                 // on_error is not last_good any more
	pluginRemoved
)

// deploymentChange is an input of a deployment.
type deploymentChange struct {
	event     deploymentEvent
	installed *module // with moduleInstalled: the new live module
	keepLive  bool    // with moduleInstalled: the live module becomes the fallback
}

// next returns the deployment after a change. All changes of the phase happen here. No event reaches the
// retired modules once the returned deployment is in effect; the caller then closes them.
func (d deployment) next(c deploymentChange) (_ deployment, retired []*module) {
	retire := func(m *module) {
		if m != nil {
			retired = append(retired, m)
		}
	}
	switch {
	case d.phase == deploymentRemoved:
		retire(c.installed)
	case c.event == pluginRemoved:
		retire(d.live)
		retire(d.fallback)
		d = deployment{phase: deploymentRemoved, replaced: d.replaced}
	case c.event == fallbackRevoked:
		if d.phase == deploymentGuarded {
			retire(d.fallback)
			d.phase, d.fallback = deploymentLive, nil
		}
	case d.phase == deploymentPending:
		d.phase, d.live = deploymentLive, c.installed
	default:
		if c.keepLive {
			retire(d.fallback)
			d.phase, d.fallback = deploymentGuarded, d.live
		} else {
			retire(d.live)
		}
		d.live = c.installed
		d.replaced++
	}
	return d, retired
}
