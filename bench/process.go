//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child of the harness, ended by its own id.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	log    *logTail
	exited chan struct{}
	once   sync.Once
}

// logTail keeps the last 16 KiB of a child's output.
type logTail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 32<<10 {
		kept := bytes.Clone(l.buf.Bytes()[l.buf.Len()-16<<10:])
		l.buf.Reset()
		l.buf.Write(kept)
	}
	return l.buf.Write(p)
}

// startSelf starts a hidden subcommand of this program with pipes for input and output.
func startSelf(args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return start(exec.Command(self, args...), true)
}

// startNice is startSelf at a nice value, which all threads of the child inherit.
func startNice(nice int, args ...string) (*process, error) {
	if nice == 0 {
		return startSelf(args...)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return start(exec.Command("nice", append([]string{"-n", strconv.Itoa(nice), self}, args...)...), true)
}

// start runs cmd so that the child ends with the harness. With pipes, input and output stay open for a dialogue;
// otherwise both outputs go to the log.
func start(cmd *exec.Cmd, pipes bool) (*process, error) {
	p := &process{cmd: cmd, log: &logTail{}, exited: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = p.log
	cmd.WaitDelay = time.Second // a grandchild may hold the log open
	if pipes {
		var err error
		if p.stdin, err = cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("pipe to %s: %w", filepath.Base(cmd.Path), err)
		}
		if p.stdout, err = cmd.StdoutPipe(); err != nil {
			return nil, fmt.Errorf("pipe from %s: %w", filepath.Base(cmd.Path), err)
		}
	} else {
		cmd.Stdout = p.log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	go func() {
		_ = cmd.Wait() // the log is complete afterwards
		close(p.exited)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the child to end and kills it after five seconds.
func (p *process) stop() {
	p.once.Do(func() {
		if p.stdin != nil {
			_ = p.stdin.Close()
		}
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.exited:
		case <-time.After(5 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
	})
}

func (p *process) stderrTail() string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	s := strings.TrimSpace(p.log.buf.String())
	return s[max(0, len(s)-2000):]
}

// ready polls probe until probe succeeds, the child ends or time runs out.
func (p *process) ready(probe func() error) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended at once: %s", filepath.Base(p.cmd.Path), p.stderrTail())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after 20 s: %w: %s", filepath.Base(p.cmd.Path), err, p.stderrTail())
		}
	}
}

// listening is a probe: something accepts connections at addr.
func listening(network, addr string) func() error {
	return func() error {
		c, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// freePort finds a port without a listener outside the range of source ports (net.ipv4.ip_local_port_range begins at
// 32768).
func freePort() (int, error) {
	var failed error
	for range 100 {
		port := 12_000 + rand.IntN(20_000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port)) // as Caddy does
		if err != nil {
			failed = err
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port: %w", failed)
}

// need finds an installed program; the error names the package.
func need(program, pkgs string) (string, error) {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin"} {
		if path := filepath.Join(dir, program); isFile(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing: apt-get install -y %s", program, pkgs)
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() || errors.Is(err, os.ErrPermission)
}
