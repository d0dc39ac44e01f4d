package plugins

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

// Limits bound the compilation of a module in a [ChildCompiler]. A zero value means the default.
type Limits struct {
	// CPU is the processor time, in whole seconds. Default: 5 s.
	CPU time.Duration
	// Memory is the size of the data segment, in bytes. Default: 256 MiB.
	Memory int64
	// Time is the time that passes. The child has a low priority, so that other work on a busy machine multiplies its
	// time, which says nothing about the module. Default: 2 min.
	Time time.Duration
}

// Bounds and defaults of Limits.
const (
	DefaultCompileCPU    = 5 * time.Second
	DefaultCompileMemory = 256 << 20
	DefaultCompileTime   = 2 * time.Minute

	// MaxCompileTime bounds Limits.Time.
	MaxCompileTime = 10 * time.Minute

	minCompileMemory = 128 << 20 // of which the process itself takes about half
)

// WithDefaults checks limits and fills in the defaults.
func (l Limits) WithDefaults() (Limits, error) {
	setDefault(&l.CPU, DefaultCompileCPU)
	setDefault(&l.Memory, DefaultCompileMemory)
	setDefault(&l.Time, DefaultCompileTime)
	switch {
	case l.CPU < time.Second || l.CPU > MaxCompileTime || l.CPU%time.Second != 0:
		return l, fmt.Errorf("invalid cpu %v; use whole seconds from 1s to %v", l.CPU, MaxCompileTime)
	case l.Memory < minCompileMemory || l.Memory > math.MaxInt32:
		return l, fmt.Errorf("invalid memory %d; use %d to %d bytes", l.Memory, minCompileMemory, math.MaxInt32)
	case l.Time < time.Second || l.Time > MaxCompileTime:
		return l, fmt.Errorf("invalid time %v; use 1s to %v", l.Time, MaxCompileTime)
	}
	return l, nil
}

// ChildCompiler is a [Compiler] that starts a process for each module. The process limits itself before it reads the
// module, has a low priority and ends with this process, or when the context is done.
type ChildCompiler struct {
	// Command is an executable with arguments, which calls RunCompiler with the arguments that follow them.
	Command []string
	// Limits returns the limits of the next compilation. Nil stands for the defaults.
	Limits func() Limits
}

// maxCodeFile bounds a module's machine code, in bytes. Modules of Go have 6 MiB.
const maxCodeFile = 64 << 20

const (
	maxReport = 4 << 10 // bytes of the child's report and of its last words
	// exitDelay is how long the output of an ended child may take.
	exitDelay = time.Second
)

// compileReport is the child's standard output.
type compileReport struct {
	// Result is "compiled", "rejected", "memory" or "disk".
	Result string `json:"result"`
	// Error is the reason, unless the module was compiled.
	Error string `json:"error,omitempty"`
}

var errTooSlow = errors.New("time limit of a compilation")

// Compile implements [Compiler].
func (c *ChildCompiler) Compile(ctx context.Context, dir string, wasm []byte) error {
	var limits Limits
	if c.Limits != nil {
		limits = c.Limits()
	}
	limits, err := limits.WithDefaults()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time, errTooSlow)
	defer cancel()
	home := dir
	if home == "" {
		home = os.TempDir()
	}
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	cmd.Args = append(cmd.Args, dir, strconv.Itoa(int(limits.CPU/time.Second)),
		strconv.FormatInt(limits.Memory, 10), strconv.Itoa(len(wasm)))
	// GOTRACEBACK: the reason of a crash, without the stacks of all goroutines.
	cmd.Env = []string{"HOME=" + home, "GOMAXPROCS=1", "GOTRACEBACK=none"}
	cmd.Stdin = bytes.NewReader(wasm)
	var report, lastWords boundedBuffer
	cmd.Stdout, cmd.Stderr = &report, &lastWords
	cmd.WaitDelay = exitDelay
	isolateChild(cmd)
	// The signal at the end of the parent belongs to the thread that started the child, so the thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return startError(err)
	}
	err = cmd.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errTooSlow) {
		return cause
	}
	return limits.judge(cmd.ProcessState, err, context.Cause(ctx) != nil, report.Bytes(), lastWords.String())
}

// startError tells whether another attempt to start the child can succeed: the system may be short of processes or
// memory.
func startError(err error) error {
	if isShortage(err) {
		return fmt.Errorf("start the plugin compiler: %w; raise the limit on processes or memory, or try again", err)
	}
	return fmt.Errorf("%w: %w", ErrNoCompiler, err)
}

// judge returns the result of a child that has ended.
func (l Limits) judge(state *os.ProcessState, wait error, late bool, out []byte, lastWords string) error {
	var report compileReport
	if wait == nil && json.Unmarshal(out, &report) != nil {
		wait = errors.New("the compiler reported nothing")
	}
	outOfMemory := report.Result == "memory" || wait != nil && isOutOfMemory(lastWords)
	switch {
	case late && processorTime(state) < l.Time/2:
		return fmt.Errorf("the module was not compiled within %v, of which the compiler had the processor for %v: "+
			"the machine is busy; try again later, or raise the time in plugin_loading",
			l.Time, processorTime(state).Round(time.Second/10))
	case late:
		return fmt.Errorf("the module takes longer than %v to compile; simplify its largest functions, "+
			"or raise the time in plugin_loading", l.Time)
	case outOfMemory:
		return fmt.Errorf("the module needs more than %d MiB of memory to compile; simplify its largest functions, "+
			"or raise the memory in plugin_loading", l.Memory>>20)
	case wait != nil && processorTime(state) >= l.CPU*3/4: // the kernel counts by ticks
		return fmt.Errorf("the module needs more than %v of processor time to compile; simplify its largest functions, "+
			"or raise the cpu in plugin_loading", l.CPU)
	case wait != nil:
		line, _, _ := strings.Cut(strings.TrimSpace(lastWords), "\n")
		return fmt.Errorf("the plugin compiler failed, perhaps for lack of memory: %w: %.300q; simplify the module, "+
			"or raise the memory in plugin_loading", wait, line)
	case report.Result == "compiled":
		return nil
	case report.Result == "disk":
		return fmt.Errorf("%w: %s", errDisk, report.Error)
	}
	return errors.New(report.Error)
}

// processorTime returns the time for which a child had the processor, 0 if it never ran.
func processorTime(state *os.ProcessState) time.Duration {
	if state == nil {
		return 0
	}
	return state.UserTime() + state.SystemTime()
}

func isOutOfMemory(lastWords string) bool {
	return strings.Contains(lastWords, "out of memory") || strings.Contains(lastWords, "cannot allocate memory")
}

// boundedBuffer keeps the first bytes of an output.
type boundedBuffer struct{ bytes.Buffer }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxReport-b.Len())])
	return len(p), nil
}

// RunCompiler is the child of a [ChildCompiler]: it limits this process, compiles the module on standard input and
// writes a report to standard output. It returns the exit code of the process, which must do nothing else.
func RunCompiler(args []string) (exitCode int) {
	report := func(r compileReport) int {
		r.Error = fmt.Sprintf("%.1000s", r.Error)
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return 1
		}
		return 0
	}
	limits, dir, size, err := childArguments(args)
	if err == nil {
		err = limitProcess(limits)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the plugin compiler is for the server's own use:", err)
		return 2
	}
	// The collector works hard before the limit ends the process. Its threads count towards the processor time.
	debug.SetMemoryLimit(limits.Memory - limits.Memory/4)
	go watchChild(limits.Memory, os.Getppid(), func() {
		report(compileReport{Result: "memory"})
		os.Exit(0)
	})
	wasm := make([]byte, size)
	if _, err := io.ReadFull(os.Stdin, wasm); err != nil {
		fmt.Fprintln(os.Stderr, "read the module:", err)
		return 1
	}
	switch err := CompileModule(context.Background(), dir, wasm); {
	case err == nil:
		return report(compileReport{Result: "compiled"})
	case isOutOfMemory(err.Error()): // the engine panics
		return report(compileReport{Result: "memory"})
	case isDiskError(err):
		return report(compileReport{Result: "disk", Error: err.Error()})
	default:
		return report(compileReport{Result: "rejected", Error: err.Error()})
	}
}

func childArguments(args []string) (l Limits, dir string, size int, err error) {
	if len(args) != 4 {
		return l, "", 0, fmt.Errorf("%d arguments", len(args))
	}
	var numbers [3]int64
	for i, text := range args[1:] {
		if numbers[i], err = strconv.ParseInt(text, 10, 32); err != nil || numbers[i] < 0 {
			return l, "", 0, fmt.Errorf("argument %q", text)
		}
	}
	l, err = Limits{CPU: time.Duration(numbers[0]) * time.Second, Memory: numbers[1]}.WithDefaults()
	return l, args[0], int(numbers[2]), err
}

// watchChild calls exceeded once the Go runtime holds more than a number of bytes: some systems do not enforce the
// limit of the data segment. It ends this process when the parent has ended: some systems send no signal then, and
// Linux sends none to an executable with capabilities.
func watchChild(memory int64, parent int, exceeded func()) {
	sample := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	for {
		metrics.Read(sample)
		if sample[0].Value.Uint64()-sample[1].Value.Uint64() > uint64(memory) {
			exceeded()
		}
		if os.Getppid() != parent {
			os.Exit(1)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
