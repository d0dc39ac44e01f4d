package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// module is a loaded module: compiled code and the instances that run it. A deployment replaces it as a whole.
type module struct {
	spec     Spec
	key      string
	hash     string
	env      *environment
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	hooks    Hook
	loaded   time.Time

	slots     []slot
	supply    supply
	startWait time.Duration
}

// load compiles a module, checks it against the ABI, tries its samples and starts its instances. Nothing of it is visible before.
func (h *host) load(ctx context.Context, spec Spec, env *environment) (m *module, err error) {
	m = &module{
		spec: spec, key: spec.key(), hash: Hash(spec.Wasm), env: env, loaded: h.now(),
		slots: make([]slot, spec.Instances), supply: newSupply(), startWait: h.startWait,
	}
	for i := range m.slots {
		b := &m.slots[i].breakers
		b.limits, b.now = breakerLimits{spec.MaxFailures, spec.Cooldown}, h.now
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
		if m.slots[i].instance, err = m.instantiate(context.Background(), env); err != nil {
			return m, err
		}
	}
	m.requestInstance()
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

// close drains: it waits for every call in flight, then frees instances and code. Later callers get errReplaced.
func (m *module) close() {
	m.closeSupply()
	for i := range m.slots {
		m.slots[i].close()
	}
	if m.runtime != nil {
		_ = m.runtime.Close(context.Background())
	}
}

// memory returns the bytes of linear memory that the instances hold now.
func (m *module) memory() (bytes uint64) {
	for i := range m.slots {
		s := &m.slots[i]
		s.mu.Lock()
		if s.instance != nil {
			bytes += uint64(s.instance.mem.Size())
		}
		s.mu.Unlock()
	}
	return bytes
}
