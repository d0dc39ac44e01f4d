package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// devRelay is the relay of the command plugin dev.
type devRelay struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// start starts the relay with the project's Caddyfile.
func (o *pluginDev) start() (*devRelay, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "run", "--config", "Caddyfile", "--adapter", "caddyfile")
	cmd.Dir = o.dir
	cmd.Env = append(os.Environ(), "DEV_ADMIN="+o.admin, "DEV_SITE="+o.site, "DEV_PLUGIN="+o.module)
	endWithGroup(cmd)
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &devRelay{cmd, make(chan struct{})}
	go func() {
		defer close(r.done)
		showLog(o.w, log)
		_ = cmd.Wait()
	}()
	return r, nil
}

// ended is closed when the relay has ended; nil without a relay.
func (r *devRelay) ended() <-chan struct{} {
	if r == nil {
		return nil
	}
	return r.done
}

// stopTimeout is the time that the relay has to end in order.
const stopTimeout = 5 * time.Second

// stop ends the relay.
func (r *devRelay) stop() {
	if r == nil {
		return
	}
	interruptGroup(r.cmd)
	select {
	case <-r.done:
	case <-time.After(stopTimeout):
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}

// showLog writes the lines of plugins, and all warnings and errors, of Caddy's log.
func showLog(w io.Writer, log io.Reader) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Level, Logger, Msg, Plugin, Error string
		}
		text := lines.Text()
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			if strings.HasPrefix(text, "Error: ") {
				fmt.Fprintf(w, "  %s\n", printable(text))
			}
			continue
		}
		if line.Plugin == "" && line.Level != "error" && line.Level != "warn" || strings.Contains(line.Msg, "requires TLS") {
			continue
		}
		// The caller of the admin API, this command among them, reports such an error itself.
		if line.Logger == "admin.api" && line.Msg == "request error" {
			continue
		}
		if line.Error != "" {
			line.Msg += ": " + line.Error
		}
		fmt.Fprintf(w, "  %s %-5s %s\n", time.Now().Format("15:04:05"), line.Level, printable(line.Msg))
	}
	_, _ = io.Copy(io.Discard, log) // after a line that is too long
}

// devSources stand for the state of a project's files: of those that are built, and of the Caddyfile.
type devSources struct{ sources, caddyfile string }

// sourceSuffixes are those of files whose change means a new build.
var sourceSuffixes = []string{".go", ".rs", ".ts", ".js", ".c", ".h", ".json", ".toml", ".ndjson", ".sh", ".mod"}

// readSources returns the state of the files below a folder.
func readSources(dir string) (s devSources, err error) {
	var b strings.Builder
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir &&
			(strings.HasPrefix(name, ".") || slices.Contains([]string{"node_modules", "target", "page"}, name)):
			return filepath.SkipDir
		case d.IsDir() || name == "package-lock.json":
			return nil
		case name != "Caddyfile" && !slices.Contains(sourceSuffixes, filepath.Ext(name)):
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil // removed meanwhile
		}
		state := fmt.Sprintf("%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
		if name == "Caddyfile" {
			s.caddyfile += state
			return nil
		}
		b.WriteString(state)
		return nil
	})
	s.sources = b.String()
	return s, err
}

// freePort returns a port of this machine that no process uses.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
