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

	"github.com/tetratelabs/wazero"
)

// codes holds the compiled code of modules, for all modules of a Pipeline. Methods are safe for concurrent use.
type codes struct {
	store    codeStore
	compiler Compiler // nil: in this process
	// maxSize bounds modules that this process compiles without a directory. 0: not at all.
	maxSize int
	logger  *slog.Logger
	running chan struct{} // holds an element for each compilation

	mu      sync.Mutex // guards entries, their refs, busy and accepted
	entries map[string]*code
	// busy has a channel for each plugin with a compilation. The channel holds an element meanwhile.
	busy map[string]*turn
	// accepted are the modules that the Compiler has compiled within its limits without keeping the result.
	accepted map[string]bool

	warnInterpreter, warnInProcess sync.Once
}

// code is the compiled code of a metered module. Modules with equal bytes share it.
type code struct {
	codes *codes
	hash  string // of the metered module
	refs  int
	// loading holds an element while a module is compiled or loaded: equal modules take turns.
	// See docs/decisions/plugins.md#why-does-each-module-have-an-engine-of-its-own
	loading chan struct{}
	// engines are guarded by loading and refs. The last one is current; earlier ones may still run modules.
	engines []wazero.CompilationCache
}

func newCodes(o *Options, logger *slog.Logger) (*codes, error) {
	store, err := openCodeStore(o.CacheDir)
	if err != nil {
		return nil, err
	}
	return &codes{
		store: store, compiler: o.Compiler, maxSize: o.MaxUncachedModule, logger: logger,
		running: make(chan struct{}, maxCompilations), entries: map[string]*code{}, busy: map[string]*turn{},
		accepted: map[string]bool{},
	}, nil
}

// acquire returns the code of a metered module, which release gives back.
func (cs *codes) acquire(hash string) *code {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.entries[hash]
	if c == nil {
		c = &code{codes: cs, hash: hash, loading: make(chan struct{}, 1)}
		cs.entries[hash] = c
	}
	c.refs++
	return c
}

// release frees the code when no module uses it any more.
func (c *code) release() {
	c.codes.mu.Lock()
	defer c.codes.mu.Unlock()
	if c.refs--; c.refs > 0 {
		return
	}
	delete(c.codes.entries, c.hash)
	for _, engine := range c.engines {
		_ = engine.Close(context.Background())
	}
}

// engine returns the engine of equal modules, nil before the first one. The caller holds loading.
func (c *code) engine() wazero.CompilationCache {
	if len(c.engines) == 0 {
		return nil
	}
	return c.engines[len(c.engines)-1]
}

// inUse returns the hashes of the modules that are loaded or being loaded.
func (cs *codes) inUse() map[string]bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	hashes := make(map[string]bool, len(cs.entries))
	for hash := range cs.entries {
		hashes[hash] = true
	}
	return hashes
}

// load sets the runtime and the compiled code of a module.
func (c *code) load(ctx context.Context, m *module, metered []byte) error {
	select {
	case c.loading <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.loading }()
	cs := c.codes
	if CurrentEngine() == EngineInterpreter {
		cs.warnInterpreter.Do(func() {
			cs.logger.Warn("plugins run in an interpreter", "effect", "plugins run 20 to 100 times slower",
				"remedy", "use a processor of amd64 or arm64, and allow executable memory (MemoryDenyWriteExecute=no)")
		})
		return c.loadUncached(ctx, m, metered, 0)
	}
	switch {
	case cs.store.dir == "":
		return c.loadUncached(ctx, m, metered, cs.maxSize)
	case cs.compiler == nil:
		return c.loadShared(ctx, m, metered)
	}
	err := c.loadCached(ctx, m, metered)
	switch {
	case errors.Is(err, ErrNoCompiler):
		cs.warnInProcess.Do(func() {
			cs.logger.Warn("plugins compiled in the server's process", "error", err,
				"effect", fmt.Sprintf("modules of more than %d bytes are rejected", cs.maxSize),
				"remedy", "let the server start its own executable")
		})
		m.closeCode()
		return c.loadUncached(ctx, m, metered, cs.maxSize)
	case errors.Is(err, errDisk), isDiskError(err):
		cs.warnUncached(m, err)
		m.closeCode()
		return c.loadUncached(ctx, m, metered, cs.maxSize)
	}
	return err
}

// warnUncached logs that a module is not kept on disk. The next start compiles it again.
func (cs *codes) warnUncached(m *module, err error) {
	cs.logger.Warn("compiled plugin not cached on disk", "plugin", m.spec.Name, "error", err)
}

// loadCached loads a module that the Compiler has compiled, now or earlier. This process compiles nothing.
func (c *code) loadCached(ctx context.Context, m *module, metered []byte) error {
	cs := c.codes
	if engine := c.engine(); engine != nil { // an equal module is or was loaded
		if err := c.compile(onlyCached(), m, metered, engine); err == nil {
			return nil
		}
		m.closeCode()
	}
	if cs.store.has(c.hash) {
		err := c.openCached(m, metered)
		if err == nil {
			return nil
		}
		m.closeCode()
		if !errors.Is(err, errNotCompiled) && !strings.Contains(err.Error(), "compilationcache:") {
			return err
		}
		cs.store.remove(c.hash) // damaged, or another process has removed it meanwhile
	}
	if err := cs.compileToStore(ctx, m.spec.Name, c.hash, metered); err != nil {
		return err
	}
	return c.openCached(m, metered)
}

// openCached loads a module from its directory in the store.
func (c *code) openCached(m *module, metered []byte) error {
	engine, err := newEngine(c.codes.store.path(c.hash))
	if err != nil {
		return err
	}
	if err := c.compile(onlyCached(), m, metered, engine); err != nil {
		return err
	}
	c.engines = append(c.engines, engine)
	c.codes.store.use(c.hash)
	return nil
}

// loadUncached compiles a module in this process. The Compiler, if there is one, tries it first. maxSize bounds the
// module unless it is 0.
func (c *code) loadUncached(ctx context.Context, m *module, metered []byte, maxSize int) error {
	cs := c.codes
	if maxSize > 0 && len(m.spec.Wasm) > maxSize {
		return fmt.Errorf("the module has %d bytes; where no other process can compile it into a writable data directory, "+
			"%d are allowed; make the directory writable, see the log, or build a smaller module",
			len(m.spec.Wasm), maxSize)
	}
	if err := cs.try(ctx, m.spec.Name, c.hash, metered); err != nil {
		return err
	}
	return c.compileHere(m, metered, "")
}

// maxAccepted bounds the hashes of accepted modules that are kept.
const maxAccepted = 256

// try lets the Compiler, if there is one, find out whether this process can compile a module.
func (cs *codes) try(ctx context.Context, plugin, hash string, metered []byte) error {
	cs.mu.Lock()
	accepted := cs.accepted[hash]
	cs.mu.Unlock()
	if accepted || cs.compiler == nil {
		return nil
	}
	err := cs.inTurn(ctx, plugin, func() error { return cs.compiler.Compile(ctx, "", metered) })
	if errors.Is(err, ErrNoCompiler) {
		return nil
	}
	if err == nil {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		if len(cs.accepted) >= maxAccepted {
			clear(cs.accepted)
		}
		cs.accepted[hash] = true
	}
	return err
}

// loadShared compiles a module in this process, or loads it from the store.
func (c *code) loadShared(ctx context.Context, m *module, metered []byte) error {
	store := c.codes.store
	return c.codes.inTurn(ctx, m.spec.Name, func() error {
		known := store.has(c.hash)
		err := c.compileHere(m, metered, store.path(c.hash))
		switch {
		case err == nil && !known:
			store.prune(c.codes.inUse())
		case err != nil && !known:
			store.remove(c.hash)
		}
		if isDiskError(err) {
			c.codes.warnUncached(m, err)
			err = c.compileHere(m, metered, "")
		}
		store.use(c.hash)
		return err
	})
}

// compileHere compiles a module in this process.
func (c *code) compileHere(m *module, metered []byte, dir string) error {
	m.closeCode()
	if engine := c.engine(); engine != nil {
		return c.compile(context.Background(), m, metered, engine)
	}
	engine, err := newEngine(dir)
	if err != nil {
		return err
	}
	if err = c.compile(context.Background(), m, metered, engine); err == nil {
		c.engines = append(c.engines, engine)
	}
	return err
}

// compile creates the module's runtime and compiles or loads the module there.
func (c *code) compile(ctx context.Context, m *module, metered []byte, engine wazero.CompilationCache) (err error) {
	config := engineConfig().WithMemoryLimitPages(uint32(m.spec.Memory >> 16)).WithCompilationCache(engine)
	m.runtime = wazero.NewRuntimeWithConfig(context.Background(), config)
	m.compiled, err = m.runtime.CompileModule(ctx, metered)
	return err
}

// compileToStore lets the Compiler compile a module into the store.
func (cs *codes) compileToStore(ctx context.Context, plugin, hash string, metered []byte) error {
	return cs.inTurn(ctx, plugin, func() error {
		dir, err := cs.store.tempDir()
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if err := cs.compiler.Compile(ctx, dir, metered); err != nil {
			return err
		}
		if err := cs.store.add(dir, hash); err != nil {
			return err
		}
		cs.store.prune(cs.inUse())
		return nil
	})
}

// isDiskError reports whether err comes from reading or writing the cache of compiled modules: the disk is full or
// fails.
// See docs/decisions/plugins.md#why-does-a-full-disk-not-keep-a-plugin-from-loading
func isDiskError(err error) bool {
	return errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)) ||
		errors.As(err, new(*os.SyscallError))
}
