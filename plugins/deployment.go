package plugins

// deploymentPhase is the phase of a plugin's deployment.
type deploymentPhase uint8

const (
	deploymentPending deploymentPhase = iota // no module is installed yet, and no route names the plugin
	deploymentLive                           // the live module decides
	deploymentGuarded                        // as live, and the fallback decides where the live module fails
	deploymentCanary                         // as live or guarded, and a candidate decides for a share of the groups
	deploymentRemoved                        // the plugin has left the pipeline for good
)

// deployment is a state of a plugin's modules. The value is immutable: a change replaces the whole value between two
// events.
type deployment struct {
	phase    deploymentPhase
	live     *module // set while live, guarded or canary
	fallback *module // set while guarded, may be in canary: the module before live, kept for on_error last_good
	canary   *canary // set in canary
	replaced uint64  // how many modules another one has replaced
}

// serving returns the module that decides for a group, nil if there is none.
func (d *deployment) serving(group string) *module {
	if d.canary != nil && d.canary.takes(group) {
		return d.canary.module
	}
	return d.live
}

// deploymentEvent is the kind of a change to a deployment.
type deploymentEvent uint8

const (
	moduleInstalled deploymentEvent = iota
	fallbackRevoked                 // on_error is not last_good any more
	canaryStarted                   // or another one takes its place
	canaryResized                   // another share of the groups
	canaryEnded                     // the live module decides for all groups again
	pluginRemoved
)

// deploymentChange is an input of a deployment.
type deploymentChange struct {
	event     deploymentEvent
	installed *module // with moduleInstalled: the new live module
	keepLive  bool    // with moduleInstalled: the live module becomes the fallback
	canary    *canary // with canaryStarted and canaryResized
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
		if c.event == canaryStarted {
			retire(c.canary.candidate())
		}
	case c.event == pluginRemoved:
		retire(d.live)
		retire(d.fallback)
		retire(d.canary.candidate())
		return deployment{phase: deploymentRemoved, replaced: d.replaced}, retired
	case c.event == fallbackRevoked:
		retire(d.fallback)
		d.fallback = nil
	case c.event == canaryStarted && d.phase == deploymentPending:
		retire(c.canary.candidate())
	case c.event == canaryStarted:
		retire(d.canary.candidate())
		d.canary = c.canary
	case c.event == canaryResized:
		if d.phase == deploymentCanary {
			d.canary = c.canary
		}
	case c.event == canaryEnded:
		retire(d.canary.candidate())
		d.canary = nil
	case d.phase == deploymentPending:
		d.live = c.installed
	default:
		if c.keepLive {
			retire(d.fallback)
			d.fallback = d.live
		} else {
			retire(d.live)
		}
		d.live = c.installed
		d.replaced++
	}
	d.phase = d.phaseOfModules()
	return d, retired
}

// phaseOfModules returns the phase of a plugin with the deployment's modules.
func (d *deployment) phaseOfModules() deploymentPhase {
	switch {
	case d.phase == deploymentRemoved:
		return deploymentRemoved
	case d.live == nil:
		return deploymentPending
	case d.canary != nil:
		return deploymentCanary
	case d.fallback != nil:
		return deploymentGuarded
	}
	return deploymentLive
}
