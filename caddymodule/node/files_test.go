package node

import (
	"math"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestWithinFiles(t *testing.T) {
	for _, c := range []struct{ connections, files, want int }{
		{100_000, 0, 100_000},
		{0, 0, 0}, // no limit on files
		{100_000, 1024, 960},
		{0, 1024, 960},
		{500, 1024, 500},
		{100_000, 20_000, 19_375},
		{100_000, 1 << 20, 100_000},
		{100_000, 65_536, 64_512},
		{100_000, 40, 1},
		{0, math.MaxInt32, math.MaxInt32 - 1024},
	} {
		if got := withinFiles(c.connections, c.files); got != c.want {
			t.Errorf("%d connections, %d files: %d, want %d", c.connections, c.files, got, c.want)
		}
	}
}

func TestUsedFiles(t *testing.T) {
	n := min(openFiles(), 3000)
	before := usedFiles(0, n)
	var files []*os.File
	for range 1500 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	if more := usedFiles(0, n) - before; more < 1490 || more > 1510 { // others come and go in this process
		t.Errorf("%d more are in use, want 1500", more)
	}
	for _, f := range files[:1000] {
		f.Close()
	}
	if more := usedFiles(0, n) - before; more < 490 || more > 510 {
		t.Errorf("%d more are in use, want 500", more)
	}
}

func TestCrowd(t *testing.T) {
	n, now := openFiles(), time.Now()
	var c crowd
	c.on.Store(true)
	if !c.room(n, now) || c.on.Load() {
		t.Error("no room where nearly all is free, or still a crowd")
	}
	c.free = fileReserve(n)/2 + 1
	for i, want := range []bool{true, true, false} {
		if c.room(n, now) != want {
			t.Errorf("file %d: room %v, want %v: two would have left enough, the third not", i, !want, want)
		}
	}
	if !c.room(n, now.Add(countEvery)) {
		t.Error("not counted again")
	}
	c.on.Store(true)
	last := lastOf(n) + 1
	if err := unix.Dup3(0, last, 0); err != nil {
		t.Fatal(err)
	}
	if !c.room(n, now.Add(2*countEvery)) || !c.on.Load() {
		t.Error("no room where nearly all is free, or the end of the crowd while somebody holds one of the last")
	}
	if err := unix.Close(last); err != nil {
		t.Fatal(err)
	}
	if !c.room(n, now.Add(3*countEvery)) || c.on.Load() {
		t.Error("no end of the crowd")
	}
}

func BenchmarkUsedFiles(b *testing.B) {
	n := openFiles()
	for b.Loop() {
		usedFiles(0, n)
	}
}
