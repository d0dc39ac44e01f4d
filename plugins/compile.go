package plugins

import (
	"context"
	"errors"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// Compiler compiles modules outside this process, with limits: a small module can take the engine's compiler hours and
// gigabytes. [ChildCompiler] is one. Methods must be safe for concurrent use.
// See docs/decisions/plugins.md#why-does-a-child-process-compile-modules
type Compiler interface {
	// Compile calls CompileModule elsewhere for a module, which the pipeline has already rewritten. dir is an empty
	// directory for the result; if it is "", Compile only finds out whether the compilation stays within the limits.
	// An error that wraps ErrNoCompiler lets the pipeline compile in this process, as if there were no Compiler.
	Compile(ctx context.Context, dir string, wasm []byte) error
}

// ErrNoCompiler tells that a Compiler cannot work at all in this environment.
var ErrNoCompiler = errors.New("no compiler process can be started")

// errDisk marks an error of the disk on which compiled modules are kept, reported by a Compiler.
var errDisk = errors.New("the disk of the compiled plugins fails")

// CompileModule compiles a module and writes the result to dir, the engine's cache directory. With dir "", it only
// compiles. It is the work of a [Compiler], in this process and without limits.
func CompileModule(ctx context.Context, dir string, wasm []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = engineFault(r)
		}
	}()
	cache, err := newEngine(dir)
	if err != nil {
		return err
	}
	defer func() { _ = cache.Close(ctx) }()
	r := wazero.NewRuntimeWithConfig(ctx, engineConfig().WithCompilationCache(cache))
	defer func() { _ = r.Close(ctx) }()
	compiled, err := r.CompileModule(ctx, wasm)
	if err != nil {
		return err
	}
	return compiled.Close(ctx)
}

// newEngine opens the engine's cache in a directory, or in memory if dir is "".
func newEngine(dir string) (wazero.CompilationCache, error) {
	if dir == "" {
		return wazero.NewCompilationCache(), nil
	}
	return wazero.NewCompilationCacheWithDir(dir)
}

// newRuntimeConfig is replaced in tests of the interpreter.
var newRuntimeConfig = wazero.NewRuntimeConfig

// engineConfig returns the settings on which compiled code depends. A Compiler and the pipeline use the same.
func engineConfig() wazero.RuntimeConfig {
	return newRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2).WithDebugInfoEnabled(false)
}

// errNotCompiled tells that the engine's cache has no result of a Compiler.
var errNotCompiled = errors.New("the compiled module is missing")

// onlyCached returns a context with which the engine loads a module from its cache, or fails with errNotCompiled before
// it compiles a function: between functions, the engine's parallel compiler looks whether its context is done.
func onlyCached() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errNotCompiled)
	return experimental.WithCompilationWorkers(ctx, 2)
}

// Engine is how modules run.
type Engine string

// Engines.
const (
	EngineCompiler    Engine = "compiler"    // modules run as machine code
	EngineInterpreter Engine = "interpreter" // 20 to 100 times slower
)

// CurrentEngine returns the engine of this process. The engine interprets modules if it has no compiler for this
// processor, or if the system refuses executable memory.
func CurrentEngine() Engine { return currentEngine() }

var currentEngine = sync.OnceValue(func() (e Engine) {
	defer func() {
		if recover() != nil {
			e = EngineInterpreter
		}
	}()
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, engineConfig())
	defer func() { _ = r.Close(ctx) }()
	// An empty function. The interpreter loads it, the compiler looks at the context first.
	wasm := []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x0a\x04\x01\x02\x00\x0b")
	if _, err := r.CompileModule(onlyCached(), wasm); errors.Is(err, errNotCompiled) {
		return EngineCompiler
	}
	return EngineInterpreter
})
