package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// watchInterval is the time between two checks of the files. A changed file is read after an interval without
	// further changes.
	watchInterval = time.Second
	// watchesPerStoragePoll is the number of checks of the files for each check of the storage.
	watchesPerStoragePoll = 3
)

// now is the clock of refusals.
var now = time.Now

// rejectionMessages are the log messages of rejections, by origin of the rejected version.
var rejectionMessages = map[string]string{
	string(FromFile):   "changed plugin file rejected",
	string(FromDeploy): "deployed plugin rejected on this node",
	"storage":          "plugin deployment unreadable",
	"canary":           "plugin canary unreadable",
}

// errRecordLost is the rejection of a node whose deployment is missing in the storage.
var errRecordLost = errors.New("the deployment is missing in the storage, which may be lost or not mounted; " +
	"restore the storage, deploy again, or undeploy")

// watch applies new modules and samples until the host closes. Each plugin has a goroutine of its own, so that a file
// that takes long to compile, or to read, holds up no other plugin.
func (h *Host) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	seen := map[string]*seenFiles{}
	for n := 1; ; n++ {
		select {
		case <-h.closing.Done():
			return
		case <-tick.C:
		}
		list, _ := h.snapshot()
		for _, p := range list {
			if seen[p.Name] == nil {
				seen[p.Name] = &seenFiles{}
			}
			ctx, release, ok := h.tryAcquire(p.Name)
			if !ok {
				continue
			}
			// A canary that another node takes back ends here at once.
			files, poll := seen[p.Name], n%watchesPerStoragePoll == 0 || p.record.canary() != nil
			go func() {
				defer release()
				h.refresh(ctx, p.Name, files, poll)
			}()
		}
	}
}

// seenFiles are the states of a plugin's files at the last check. The holder of the plugin's lock uses it.
type seenFiles struct {
	module, samples fileState
	secrets         seenSecrets
}

// refresh brings a plugin up to date with its files and, if poll is set, with the storage.
func (h *Host) refresh(ctx context.Context, name string, seen *seenFiles, poll bool) {
	p, store, ok := h.lookUp(name)
	if !ok {
		return
	}
	resampled := h.reloadSamples(&p, seen)
	changed := h.fileChanged(&p, seen)
	if poll {
		h.poll(ctx, store, &p)
	}
	if changed || poll || resampled {
		h.follow(ctx, store, &p, changed)
	}
	if resampled {
		h.checkSamples(ctx, &p)
	}
	h.followCanary(ctx, store, &p)
	h.reloadSecrets(ctx, name, &seen.secrets)
}

// fileChanged reports whether the module's file has changed and is stable.
func (h *Host) fileChanged(p *runningPlugin, seen *seenFiles) bool {
	state, err := stateOf(p.path)
	if err != nil || state == p.file { // a missing file is about to be replaced
		return false
	}
	if seen.module != state {
		seen.module = state
		return false
	}
	return true
}

// poll reads the record of a plugin, which another node may have changed.
func (h *Host) poll(ctx context.Context, store Store, p *runningPlugin) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	r, err := store.load(ctx, p.Name)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		h.reject(p, rejection{"storage", err.Error(), err}, rejectionMessages["storage"])
		return
	case r == nil && p.memory.ID != "":
		h.reject(p, rejection{"storage", "missing", errRecordLost}, rejectionMessages["storage"])
		return
	}
	p.record = r
	h.change(p.Plugin, func(p *runningPlugin) {
		p.record = r
		if p.rejected.from == "storage" {
			p.rejected = rejection{}
		}
	})
}

// follow runs the version that decide chooses. It reads the file again only if it has changed.
func (h *Host) follow(ctx context.Context, store Store, p *runningPlugin, changed bool) {
	if p.record == nil && p.memory.ID != "" && p.module.from == FromDeploy {
		return // the storage is lost, see poll
	}
	var file fileContent
	hash := p.hash
	read := func() bool {
		if file = p.readFile(); file.hash == "" {
			return false
		}
		hash = file.hash
		return h.change(p.Plugin, func(p *runningPlugin) { p.file, p.hash = file.state, file.hash })
	}
	if changed && !read() {
		return
	}
	for i, c := range candidates(p.memory.nodeState, p.record, hash) {
		if c.is(p.module, hash) {
			h.settle(store, p, c, i == 0)
			return
		}
		attempt := c.attempt(p.Plugin, p.samples, hash)
		if p.memory.refused(attempt, now()) != "" {
			continue
		}
		if c.from == FromFile && file.hash == "" {
			read() // open reports an error
		}
		err := h.run(ctx, store, p, c, file, i == 0)
		if err == nil || ctx.Err() != nil || errors.Is(err, errStale) {
			return
		}
		if i == 0 {
			h.reject(p, rejection{string(c.from), attempt, err}, rejectionMessages[string(c.from)])
		}
		if opening := new(openError); !errors.As(err, &opening) {
			h.forgo(store, p, attempt, err)
		}
	}
}

// settle records that a candidate runs already. best tells that no better one was refused.
func (h *Host) settle(store Store, p *runningPlugin, c candidate, best bool) {
	if best {
		h.change(p.Plugin, func(p *runningPlugin) {
			if p.rejected.from == string(FromFile) || p.rejected.from == string(FromDeploy) {
				p.rejected = rejection{}
			}
		})
	}
	if c.next != p.memory.nodeState {
		v := *p.module
		v.next = c.next
		h.commit(store, &v)
	}
}

// run prepares and installs a candidate.
func (h *Host) run(
	ctx context.Context, store Store, p *runningPlugin, c candidate, file fileContent, best bool,
) error {
	v, err := c.open(ctx, store, p.Plugin, file)
	if err != nil {
		return &openError{err}
	}
	prepared, err := h.Pipeline.Prepare(ctx, v.spec(p.samples))
	if err != nil {
		return err
	}
	defer prepared.Close()
	if err := h.install(ctx, v, prepared, func(p *runningPlugin) {
		if best {
			p.rejected = rejection{}
		}
	}); err != nil {
		return err
	}
	h.commit(store, v)
	h.align()
	return nil
}

// openError is the error of a version that could not be read. The next check reads it again.
type openError struct{ error }

func (e *openError) Unwrap() error { return e.error }

// forgo remembers a refused candidate, so that it is not compiled again and again.
func (h *Host) forgo(store Store, p *runningPlugin, attempt string, err error) {
	var state memory
	h.change(p.Plugin, func(p *runningPlugin) {
		p.memory.remember(refusal{attempt, err.Error(), now()})
		state = p.memory
	})
	p.memory = state
	h.memories.save(p.Plugin, store, state)
}

// reloadSamples applies changed golden samples once the file is stable, and reports whether the samples changed. The
// next check of the module then tries a rejected version again.
func (h *Host) reloadSamples(p *runningPlugin, seen *seenFiles) bool {
	if p.Plugin.samples == "" {
		return false
	}
	state, err := stateOf(p.Plugin.samples)
	if err != nil || state == p.sampled {
		return false
	}
	if seen.samples != state {
		seen.samples = state
		return false
	}
	samples, err := readSamples(p.Plugin.samples)
	if err != nil {
		h.change(p.Plugin, func(p *runningPlugin) { p.sampled = state })
		h.reject(p, rejection{"samples", fmt.Sprint(state), err}, "changed plugin samples rejected")
		return false
	}
	if !h.change(p.Plugin, func(p *runningPlugin) {
		p.sampled, p.samples = state, samples
		if p.module.entry == nil || !p.module.entry.Forced {
			h.Pipeline.SetSamples(p.Name, samples)
		}
	}) {
		return false
	}
	p.samples = samples
	h.log.Info("plugin samples reloaded", "plugin", p.Name, "count", len(samples))
	return true
}

// checkSamples checks the running module against changed samples. A module that fails stays in operation.
func (h *Host) checkSamples(ctx context.Context, p *runningPlugin) {
	now, _, ok := h.lookUp(p.Name)
	if !ok || now.Plugin != p.Plugin || now.rejected.err != nil && now.rejected.from != "samples" {
		return // already reported
	}
	switch err := h.Pipeline.CheckLive(ctx, p.Name); {
	case ctx.Err() != nil:
	case err != nil:
		h.reject(p, rejection{"samples", fmt.Sprint(now.sampled), err}, "running plugin fails changed samples")
	default:
		h.change(p.Plugin, func(p *runningPlugin) { p.rejected = rejection{} })
	}
}

// reject records a rejected version, and logs the first rejection of each version.
func (h *Host) reject(p *runningPlugin, r rejection, message string) {
	first := false
	h.change(p.Plugin, func(p *runningPlugin) {
		first = p.rejected.version != r.version
		p.rejected = r
	})
	if first {
		h.countRefusal(p.Name, r.err)
		h.log.Error(message, "plugin", p.Name, "error", r.err)
	}
}
