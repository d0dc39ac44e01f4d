package discovery_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgerelay/edgerelay/internal/e2e/peers"
	"github.com/edgerelay/edgerelay/relay/backplane/discovery"
)

const installPostgres = "apt-get install --yes postgresql"

// database is a PostgreSQL server of the test's own.
type database struct {
	t       *testing.T
	dsn     string
	dir     string
	port    int
	server  string
	as      *syscall.Credential // who runs it; it does not run as root
	process *peers.Process
}

func startPostgres(t *testing.T) *database {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Fatalf("PostgreSQL is not installed; mend it with: %s", installPostgres)
	}
	bin := filepath.Dir(found[len(found)-1])
	d := &database{t: t, port: peers.FreePort(t), server: filepath.Join(bin, "postgres")}
	// Not t.TempDir: its parents are closed to the user postgres.
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
	initdb := d.command(filepath.Join(bin, "initdb"), "--pgdata", filepath.Join(d.dir, "data"), "--auth", "trust", "--username", "awx", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	d.dsn = fmt.Sprintf("postgres://awx@127.0.0.1:%d/postgres?sslmode=disable", d.port)
	d.start()
	return d
}

func (d *database) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = d.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.as}
	return cmd
}

func (d *database) start() {
	d.t.Helper()
	d.process = peers.Start(d.t, "postgres", d.command(d.server, "-D", filepath.Join(d.dir, "data"), "-k", d.dir,
		"-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(d.port), "-c", "fsync=off"))
	peers.Eventually(d.t, 20*time.Second, "PostgreSQL answers", func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)), time.Second)
		if err != nil {
			return err
		}
		_ = conn.Close()
		c := d.connect()
		if c == nil {
			return fmt.Errorf("not yet")
		}
		return c.Close(context.Background())
	})
}

func (d *database) connect() *pgx.Conn {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, d.dsn)
	if err != nil {
		return nil
	}
	return c
}

// notify sends what an AWX web node sends.
func notify(t *testing.T, c *pgx.Conn, payload string) {
	t.Helper()
	if _, err := c.Exec(context.Background(), "SELECT pg_notify('web_ws_heartbeat', $1)", payload); err != nil {
		t.Fatal(err)
	}
}

func TestPostgresHeartbeats(t *testing.T) {
	d := startPostgres(t)
	c := d.connect()
	if c == nil {
		t.Fatal("no connection")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := c.Exec(ctx, "LISTEN web_ws_heartbeat"); err != nil {
		t.Fatal(err)
	}
	node := func(name, ip string) *discovery.Postgres {
		return &discovery.Postgres{
			DSN: d.dsn, Hostname: name, IP: ip, Scheme: "http", Port: 8013, Every: 300 * time.Millisecond, Silence: 2 * time.Second, Log: quiet,
		}
	}
	a := run(t, node("ä", ""))
	// What task nodes of AWX hear, byte for byte.
	hear := func(want string) {
		t.Helper()
		for {
			n, err := c.WaitForNotification(ctx)
			if err != nil {
				t.Fatalf("%v while waiting for %s", err, want)
			}
			if n.Payload == want {
				return
			}
		}
	}
	hear(`{"hostname": "\u00e4", "ip": null, "action": "online"}`)
	b := run(t, node("b", "10.0.0.2"))
	hear(`{"hostname": "b", "ip": "10.0.0.2", "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013")
	b.expect(t, "http://ä:8013")
	// A Python web node: with an address, then with another, then without a word.
	notify(t, c, `{"hostname": "awx-web-1", "ip": "10.0.0.7", "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013", "http://10.0.0.7:8013")
	notify(t, c, `{"hostname": "awx-web-1", "ip": "fd00::7", "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013", "http://[fd00::7]:8013")
	a.expect(t, "http://10.0.0.2:8013")
	// What is not sound is passed over.
	for _, junk := range []string{
		"", "{", `[]`, `{"hostname": null, "action": "online"}`, `{"hostname": "x/../y", "action": "online"}`,
		`{"hostname": "x@y", "ip": null, "action": "online"}`, `{"hostname": "z", "action": "dancing"}`, strings.Repeat("x", 7000),
	} {
		notify(t, c, junk)
	}
	notify(t, c, `{"hostname": "awx-web-2", "ip": null, "action": "online"}`)
	a.expect(t, "http://10.0.0.2:8013", "http://awx-web-2:8013")
	notify(t, c, `{"hostname": "awx-web-2", "ip": null, "action": "offline"}`)
	a.expect(t, "http://10.0.0.2:8013")
	b.stop()
	hear(`{"hostname": "b", "ip": "10.0.0.2", "action": "offline"}`)
	a.expect(t)

	// PostgreSQL dies and comes back: a goes on by itself.
	_ = c.Close(ctx)
	d.process.Kill()
	d.start()
	b = run(t, node("b", "10.0.0.2"))
	a.expect(t, "http://10.0.0.2:8013")
	b.expect(t, "http://ä:8013")
}
