package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// maxTable bounds a guest's tables: eight bytes of host memory an element.
const maxTable = 1 << 17

const (
	// defaultStartWait is how long an event waits for an instance after a failure. Guests in C start in 0.05 ms, in Go
	// in 5; on a busy machine it takes longer, and an event of another group than the one that failed must not be
	// withheld for that.
	defaultStartWait = 500 * time.Millisecond
	// After an instance that did not start, the next attempt waits for startPause, doubled each time up to
	// startPauseMax.
	startPause, startPauseMax = 50 * time.Millisecond, 5 * time.Second
)

// errReplaced tells a caller that the module was replaced under its feet; the plugin's current one takes the event.
var errReplaced = errors.New("the module has been replaced")

// errOpen tells that a hook is set aside for a group.
var errOpen = errors.New("the plugin is set aside for this group after failures there")

// module is a loaded module: compiled code and the instances that run it. It is the unit that is swapped.
type module struct {
	spec     Spec
	key      string
	hash     string
	env      *environment
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	hooks    Hook
	loaded   time.Time

	slots  []slot
	spare  chan *instance // one, to take a failed one's place at once
	broken chan struct{}  // an instance did not start

	startWait time.Duration
	background
}

// background are the goroutines that build instances; close waits for them.
type background struct {
	mu        sync.Mutex
	closed    bool
	refilling bool
	unstarted int       // attempts in a row that gave no instance
	retry     time.Time // no attempt before
	wg        sync.WaitGroup
}

// slot holds one instance. Its lock is held during a call.
type slot struct {
	breakers breakers // of the groups that meet this slot; it has a lock of its own
	mu       sync.Mutex
	in       *instance // nil after a failure, until the next call
	closed   bool
	tally    tally
	_        [64]byte // so that neighbours do not share a cache line
}

// load compiles a module, checks it against the ABI, tries its samples and starts its instances. Nothing of it is visible before.
func (h *host) load(ctx context.Context, spec Spec, env *environment) (m *module, err error) {
	m = &module{
		spec: spec, key: spec.key(), hash: Hash(spec.Wasm), env: env, loaded: h.now(),
		slots: make([]slot, spec.Instances), spare: make(chan *instance, 1), broken: make(chan struct{}), startWait: h.startWait,
	}
	for i := range m.slots {
		b := &m.slots[i].breakers
		b.limit, b.cooldown, b.now = spec.MaxFailures, spec.Cooldown, h.now
	}
	defer func() {
		if r := recover(); r != nil { // a bug of the engine must not cost the server
			err = engineFault(r)
		}
		if err != nil {
			m.close()
			m, err = nil, fmt.Errorf("plugin %s: %w", spec.Name, err)
		}
	}()
	metered, err := metering.Rewrite(spec.Wasm, metering.Options{InitialFuel: spec.InitFuel, ExportStart: true, MaxTableElements: maxTable, MaxPages: uint32(spec.Memory / (64 << 10))})
	if err != nil {
		return m, err
	}
	err = h.compile(ctx, m, metered)
	if faultOfDisk(err) { // it costs the next start the compilation, and this one nothing
		h.logger.Warn("a compiled plugin is not kept on disk; the next start compiles it again", "plugin", spec.Name, "error", err)
		_ = m.runtime.Close(ctx)
		err = m.compile(ctx, metered, nil)
	}
	if err != nil {
		if strings.Contains(err.Error(), "over limit") {
			return m, fmt.Errorf("compile the module: %w: raise the plugin's memory, now %d bytes", err, spec.Memory)
		}
		return m, fmt.Errorf("compile the module: %w", err)
	}
	if m.hooks, err = checkExports(m.compiled); err != nil {
		return m, err
	}
	if err = m.checkImports(); err != nil {
		return m, err
	}
	if err = buildHost(ctx, m.runtime, hostModule, hostFunctions); err != nil {
		return m, err
	}
	if err = buildHost(ctx, m.runtime, wasiModule, wasiFunctions); err != nil {
		return m, err
	}
	if err = m.trySamples(); err != nil {
		return m, err
	}
	for i := range m.slots {
		if err = ctx.Err(); err != nil {
			return m, err
		}
		if m.slots[i].in, err = m.instantiate(context.Background(), env); err != nil {
			return m, err
		}
	}
	m.refill()
	return m, nil
}

// compile compiles a module by way of the cache, one of the same bytes at a time: wazero 1.12 lets others have a module that it found on
// disk before it has made all of it.
func (h *host) compile(ctx context.Context, m *module, metered []byte) error {
	lock, _ := h.compiling.LoadOrStore(Hash(metered), new(sync.Mutex))
	mu := lock.(*sync.Mutex)
	mu.Lock()
	defer mu.Unlock()
	return m.compile(ctx, metered, h.cache)
}

// faultOfDisk tells whether the cache of compiled modules could not be read or written: the disk is full, or has faults.
func faultOfDisk(err error) bool {
	return errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)) || errors.As(err, new(*os.SyscallError))
}

// compile makes the module's runtime, and compiles it there; without a cache the runtime keeps what it has compiled.
func (m *module) compile(ctx context.Context, wasm []byte, cache wazero.CompilationCache) (err error) {
	config := wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(uint32(m.spec.Memory >> 16)).
		WithDebugInfoEnabled(false)
	if cache != nil {
		config = config.WithCompilationCache(cache)
	}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	m.compiled, err = m.runtime.CompileModule(ctx, wasm)
	return err
}

// checkImports refuses what no host function serves or no grant covers, all faults at once.
func (m *module) checkImports() error {
	var faults []error
	if mems := m.compiled.ImportedMemories(); len(mems) > 0 {
		faults = append(faults, errors.New("it imports its memory: export one instead"))
	}
	for _, f := range m.compiled.ImportedFunctions() {
		mod, name, _ := f.Import()
		var known *hostFunction
		list := hostFunctions
		switch mod {
		case hostModule:
		case wasiModule:
			list = wasiFunctions
		default:
			faults = append(faults, fmt.Errorf("it imports %s.%s: only %s and %s are offered", mod, name, hostModule, wasiModule))
			continue
		}
		for i := range list {
			if list[i].name == name {
				known = &list[i]
			}
		}
		got := signature{f.ParamTypes(), f.ResultTypes()}
		switch {
		case known == nil:
			faults = append(faults, fmt.Errorf("it imports %s.%s, which ABI %d does not have", mod, name, ABIVersion))
		case !got.equal(known.sig):
			faults = append(faults, fmt.Errorf("it imports %s.%s as %s instead of %s", mod, name, got, known.sig))
		case !m.spec.granted(known.grant):
			faults = append(faults, fmt.Errorf("it imports %s.%s, which needs the grant %q in the plugin's block", mod, name, known.grant))
		}
	}
	return errors.Join(faults...)
}

// acquire locks the slot that serves the group, with an instance in it. Unless there is an error, release must follow.
// errReplaced and errOpen mean that the module was not asked; any other error is a failure that is already noted.
func (m *module) acquire(g gate, hash uint64) (*slot, error) {
	s := &m.slots[hash%uint64(len(m.slots))]
	if !s.breakers.allow(g) {
		return nil, errOpen
	}
	s.mu.Lock()
	if s.in == nil {
		if s.closed {
			s.mu.Unlock()
			s.breakers.giveUp(g)
			return nil, errReplaced
		}
		switch err := m.ready(s).(type) {
		case nil:
		case *Failure:
			return nil, m.release(s, g, err)
		default:
			s.mu.Unlock()
			s.breakers.giveUp(g)
			return nil, err
		}
	}
	return s, nil
}

// release ends what acquire began: it counts the call, and after a failure throws the instance away unless that is
// intact.
func (m *module) release(s *slot, g gate, f *Failure) error {
	s.tally.calls++
	if s.in != nil {
		s.tally.fuel += uint64(s.in.spend())
	}
	if f == nil {
		s.mu.Unlock()
		s.breakers.succeeded(g)
		return nil
	}
	m.failed(s, g, f)
	s.mu.Unlock()
	if !f.Kind.counts() {
		s.breakers.giveUp(g)
	} else if aside := s.breakers.failed(g); aside > 0 {
		m.env.log.write(slog.LevelError, fmt.Sprintf(
			"%s is set aside for group %s and %v: %d more calls failed there than succeeded; the last: %v",
			g.hook, g.group, aside, m.spec.MaxFailures, f))
	}
	return f
}

// ready gives the slot an instance after a failure: the spare one, or the next that is built in the background. It waits for that no
// longer than the host allows, because whoever brings the event has others to bring.
func (m *module) ready(s *slot) error {
	for waiting := (<-chan time.Time)(nil); ; {
		select {
		case s.in = <-m.spare:
			m.refill()
			return nil
		default:
		}
		switch ok, pausing := m.refill(); {
		case !ok:
			return errReplaced
		case pausing:
			err := errors.New("the last ones did not start; the log says why")
			return &Failure{Kind: KindStart, Call: "a new instance", Err: err}
		}
		if waiting == nil {
			timer := time.NewTimer(m.startWait)
			defer timer.Stop()
			waiting = timer.C
		}
		select {
		case s.in = <-m.spare:
			m.refill()
			return nil
		case <-m.broken:
			return &Failure{Kind: KindStart, Call: "a new instance", Err: errors.New("it did not start; the log says why")}
		case <-waiting:
			return &Failure{Kind: KindStart, Call: "a new instance", Err: fmt.Errorf("none is ready within %v", m.startWait)}
		}
	}
}

// failed notes a failure and throws the slot's instance away, unless the guest returned in order.
func (m *module) failed(s *slot, g gate, f *Failure) {
	f.Plugin = m.spec.Name
	s.tally.failures[f.Kind.index()]++
	s.tally.last, s.tally.lastAt = f, m.env.now()
	if s.in != nil && !f.intact {
		s.in.close()
		s.in = nil
	}
	text := f.Error()
	if g.group != "" {
		text += " (group " + g.group + ")"
	}
	m.env.log.write(slog.LevelWarn, text)
	m.refill()
}

// refill builds a spare instance in the background unless there is one or one is on its way. It reports false once the module is
// being closed; pausing tells that the last attempts failed and the next one is not due yet.
func (m *module) refill() (ok, pausing bool) {
	m.background.mu.Lock()
	defer m.background.mu.Unlock()
	if m.closed {
		return false, false
	}
	if len(m.spare) > 0 || m.refilling {
		return true, false
	}
	if m.unstarted > 0 && m.env.now().Before(m.retry) {
		return true, true
	}
	m.refilling = true
	m.wg.Go(func() {
		in, err := m.instantiate(context.Background(), m.env)
		// First this, so that whoever takes the new one can order the next.
		m.background.mu.Lock()
		m.refilling = false
		if err == nil {
			m.unstarted = 0
		} else {
			m.retry = m.env.now().Add(min(startPauseMax, startPause<<min(m.unstarted, 10)))
			m.unstarted++
		}
		m.background.mu.Unlock()
		if err != nil {
			m.env.log.write(slog.LevelWarn, "a new instance did not start: "+err.Error())
			select {
			case m.broken <- struct{}{}:
			default: // no call is waiting
			}
			return
		}
		select {
		case m.spare <- in:
		default: // another was quicker
			in.close()
		}
	})
	return true, false
}

// close drains: it waits for every call under way, then frees instances and code. Callers that come later get errReplaced.
func (m *module) close() {
	m.background.mu.Lock()
	m.closed = true
	m.background.mu.Unlock()
	m.wg.Wait()
	for i := range m.slots {
		s := &m.slots[i]
		s.mu.Lock()
		s.closed = true
		if s.in != nil {
			s.in.close()
			s.in = nil
		}
		s.mu.Unlock()
	}
	select {
	case in := <-m.spare:
		in.close()
	default:
	}
	if m.runtime != nil {
		_ = m.runtime.Close(context.Background())
	}
}

// memory adds up what the instances' linear memories take now.
func (m *module) memory() (bytes uint64) {
	for i := range m.slots {
		s := &m.slots[i]
		s.mu.Lock()
		if s.in != nil {
			bytes += uint64(s.in.mem.Size())
		}
		s.mu.Unlock()
	}
	return bytes
}
