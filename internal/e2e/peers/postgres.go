package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/edgerelay/edgerelay/internal/testkit"
	"github.com/edgerelay/edgerelay/internal/testkit/process"
	"github.com/jackc/pgx/v5"
)

const installPostgres = "apt-get install --yes postgresql"

// Postgres is a real PostgreSQL server with a data directory of its own.
type Postgres struct {
	*process.Process
	// DSN is the connection string of the user awx.
	DSN string

	t      testing.TB
	dir    string
	port   int
	server string
	as     *syscall.Credential // the user of the process, which must not be root
}

// StartPostgres starts a server on a free port and waits until the server answers. Under root it runs as the user
// postgres.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Fatalf("PostgreSQL is not installed; mend it with: %s", installPostgres)
	}
	bin := filepath.Dir(found[len(found)-1])
	d := &Postgres{t: t, port: testkit.FreePort(t), server: filepath.Join(bin, "postgres")}
	// Not t.TempDir: the user postgres may not enter the parent directories.
	if d.dir, err = os.MkdirTemp("", "edgerelay-postgres-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d.dir) })
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatalf("%v; mend it with: %s", err, installPostgres)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		d.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(d.dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	initdb := d.command(filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(d.dir, "data"), "--auth", "trust",
		"--username", "awx", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	d.DSN = fmt.Sprintf("postgres://awx@127.0.0.1:%d/postgres?sslmode=disable", d.port)
	d.Restart()
	return d
}

func (d *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = d.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.as}
	return cmd
}

// Restart starts the server again on the same data and port, after Kill or Stop.
func (d *Postgres) Restart() {
	d.t.Helper()
	d.Process = process.Start(d.t, "postgres", d.command(d.server, "-D", filepath.Join(d.dir, "data"), "-k", d.dir,
		"-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(d.port), "-c", "fsync=off"))
	testkit.Eventually(d.t, "PostgreSQL answers", func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)), time.Second)
		if err != nil {
			return err
		}
		_ = conn.Close()
		c := d.Connect()
		if c == nil {
			return fmt.Errorf("not yet")
		}
		return c.Close(context.Background())
	})
}

// Connect returns a connection, or nil if there is none.
func (d *Postgres) Connect() *pgx.Conn {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, d.DSN)
	if err != nil {
		return nil
	}
	return c
}
