package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/tetratelabs/wazero"

	"github.com/edgerelay/edgerelay/plugins/internal/metering"
)

// maxTableElements bounds a guest's tables. An element takes eight bytes of host memory.
const maxTableElements = 1 << 17

// module is a loaded module: compiled code and instances. A deployment replaces the whole module.
type module struct {
	spec     Spec
	number   uint64 // unique in the process
	key      string
	hash     string
	env      *environment
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	code     *code
	hooks    Hook
	loaded   time.Time
	conceal  *concealer // of the secrets in the configuration
	// autoResponses are the answers to text messages of clients that need no call.
	autoResponses map[string][]byte

	slots     []slot
	connects  connectBreaker
	supply    supply
	startWait time.Duration
	canceled  atomic.Bool   // ends the calls in flight
	retired   chan struct{} // closed by close; nil without on_tick
	beside    *plugin       // the shadow of a canary's candidate, which ends with it; may be nil
}

// load compiles a module, checks it against the ABI, tries its samples and starts its instances.
func (h *host) load(ctx context.Context, spec Spec, env *environment) (m *module, err error) {
	m = &module{
		spec: spec, number: moduleCount.Add(1), key: spec.key(), hash: Hash(spec.Wasm), env: env, loaded: h.now(),
		slots: make([]slot, spec.Instances), supply: newSupply(), startWait: h.startWait,
		conceal: newConcealer(spec.Secrets),
	}
	limits := breakerLimits{spec.MaxFailures, spec.Cooldown}
	m.connects.limits, m.connects.now = limits, h.now
	for i := range m.slots {
		b := &m.slots[i].breakers
		b.limits, b.now = limits, h.now
	}
	defer func() {
		if r := recover(); r != nil { // a defect of the engine must not end the server
			err = engineFault(r)
		}
		if err != nil {
			m.close()
			err = m.conceal.error(err)
			if prefix := "plugin " + spec.Name + ": "; !strings.HasPrefix(err.Error(), prefix) { // as a Failure has it
				err = fmt.Errorf("%s%w", prefix, err)
			}
			m = nil
		}
	}()
	if err = spec.checkManifest(); err != nil {
		return m, err
	}
	if err = h.build(ctx, m); err != nil {
		return m, err
	}
	if m.hooks, err = checkExports(m.compiled); err != nil {
		return m, err
	}
	if err = m.checkGroups(&spec); err != nil {
		return m, err
	}
	if err = m.checkImports(); err != nil {
		return m, err
	}
	if m.hooks&OnTick != 0 {
		m.retired = make(chan struct{})
	}
	if err = buildHost(ctx, m.runtime, hostModule, hostFunctions); err != nil {
		return m, err
	}
	if err = buildHost(ctx, m.runtime, wasiModule, wasiFunctions); err != nil {
		return m, err
	}
	if err = buildSliceHost(ctx, m.runtime); err != nil {
		return m, err
	}
	if err = m.trySamples(ctx, h.now); err != nil {
		return m, err
	}
	for i := range m.slots {
		if err = ctx.Err(); err != nil {
			return m, err
		}
		if m.slots[i].instance, err = m.instantiate(ctx, env); err != nil {
			return m, err
		}
		m.slots[i].instance.slot = &m.slots[i]
		m.slots[i].publish()
	}
	m.autoResponses = m.slots[0].instance.autoResponses
	m.requestInstance()
	return m, nil
}

// checkGroups returns an error if settings without groups leave the module without calls.
func (m *module) checkGroups(spec *Spec) error {
	if spec.NeedsGroups && len(spec.Groups) == 0 && m.hooks&(ofClients|OnAlarm) == 0 {
		return fmt.Errorf("plugin %s: no groups configured; add a pattern, as in: groups job_events-*", spec.Name)
	}
	return nil
}

// build rewrites the module to count fuel and compiles it.
func (h *host) build(ctx context.Context, m *module) error {
	metered, err := metering.Rewrite(m.spec.Wasm, metering.Options{
		ExportStart: true, MaxTableElements: maxTableElements, MaxPages: uint32(m.spec.Memory >> 16),
	})
	if err != nil {
		return err
	}
	m.code = h.codes.acquire(Hash(metered))
	err = m.code.load(ctx, m, metered)
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), "over limit"):
		return fmt.Errorf("compile the module: %w; raise the plugin's memory, now %d bytes", err, m.spec.Memory)
	}
	return fmt.Errorf("compile the module: %w", err)
}

// maxFaults bounds how many wrong imports an error lists.
const maxFaults = 16

// importFaults collects the faults of imports, of which a module may have 100,000: only the first ones get a text.
type importFaults struct {
	list []error
	more int
}

func (f *importFaults) add(format string, args ...any) {
	if len(f.list) == maxFaults {
		f.more++
		return
	}
	f.list = append(f.list, fmt.Errorf(format, args...))
}

// addUnknown adds an import that this host does not serve. wanted is the ABI version that the module's manifest asks
// for if that is a newer one, else empty.
func (f *importFaults) addUnknown(name, wanted string) {
	remedy := "build with the SDK of this version, or upgrade the relay if a newer one has it"
	if wanted != "" {
		remedy = fmt.Sprintf("the module's manifest asks for ABI %s: upgrade the relay, or build with an older SDK", wanted)
	}
	f.add("the module imports %s, which this relay (plugin ABI %s) does not have; %s",
		shownName(name), abiText(ABIMinor), remedy)
}

// faults returns the list, whose last element counts the others.
func (f *importFaults) faults() []error {
	if f.more > 0 {
		return append(f.list, fmt.Errorf("%d more imports are wrong", f.more))
	}
	return f.list
}

// maxShownName bounds the bytes of a module's name in a text.
const maxShownName = 128

// shownName is a name from a module as errors and lists show it: no longer than maxShownName, and in quotes if a
// terminal could take it for a command.
func shownName(name string) string {
	if len(name) > maxShownName {
		name = strings.ToValidUTF8(name[:maxShownName], "") + "…"
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// checkImports checks that host functions serve all imports and grants cover them. The error lists the first faults.
// See docs/decisions/plugins.md#why-does-an-import-without-a-grant-reject-the-module
func (m *module) checkImports() error {
	var faults importFaults
	if mems := m.compiled.ImportedMemories(); len(mems) > 0 {
		faults.add("the module imports its memory; export a memory instead")
	}
	for _, f := range m.compiled.ImportedFunctions() {
		mod, name, _ := f.Import()
		list := hostFunctions
		switch mod {
		case hostModule:
		case wasiModule:
			list = wasiFunctions
		case metering.HostModule: // added by the rewriter
			continue
		default:
			faults.add("the module imports %s; import only from %s and %s", shownName(mod+"."+name), hostModule, wasiModule)
			continue
		}
		i := slices.IndexFunc(list, func(known hostFunction) bool { return known.name == name })
		if i < 0 {
			faults.addUnknown(mod+"."+name, "")
			continue
		}
		known := &list[i]
		got := signature{f.ParamTypes(), f.ResultTypes()}
		switch {
		case !got.equal(known.sig):
			faults.add("the module imports %s.%s as %s; the type must be %s", mod, name, got, known.sig)
		case !m.spec.granted(known.grant):
			faults.add("the module imports %s.%s; add 'grant %s' to the plugin's block", mod, name, known.grant)
		}
	}
	if m.hooks&OnTick != 0 && !m.spec.granted(GrantTick) {
		faults.add("the module exports %s; add 'grant tick 1s', or another interval, to the plugin's block", exportOnTick)
	}
	return errors.Join(faults.faults()...)
}

// close waits for every call in flight, then frees instances and code. Later callers get errReplaced.
func (m *module) close() {
	if m.retired != nil {
		close(m.retired)
		m.retired = nil
	}
	if m.beside != nil {
		m.beside.retire(m.beside.remove())
		m.beside = nil
	}
	m.closeSupply()
	for i := range m.slots {
		m.slots[i].close()
	}
	m.closeCode()
	if m.code != nil {
		m.code.release()
		m.code = nil
	}
}

// closeCode frees the runtime and the compiled code. The engine keeps compiled code until both are closed.
func (m *module) closeCode() {
	if m.runtime != nil {
		_ = m.runtime.Close(context.Background())
		m.runtime = nil
	}
	if m.compiled != nil {
		_ = m.compiled.Close(context.Background())
		m.compiled = nil
	}
}
