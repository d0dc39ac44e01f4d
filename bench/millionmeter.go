//go:build linux

package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// millionMemory is the memory of the nodes and of the kernel, in bytes.
type millionMemory struct {
	Resident int64 `json:"resident"` // of the nodes
	Slab     int64 `json:"slab"`     // of the kernel, for everything
	Sockets  int64 `json:"sockets"`  // bytes in flight or unread, TCP
	Crowds   int64 `json:"crowds"`   // resident, of the client processes
}

func (m *million) memory() (r millionMemory, err error) {
	if r.Resident, err = rssOf(m.nodePIDs()); err != nil {
		return r, err
	}
	if r.Crowds, err = rssOf(m.crowdPIDs()); err != nil {
		return r, err
	}
	if kib := strings.Fields(fieldOf("/proc/meminfo", "Slab", ":")); len(kib) > 0 {
		n, _ := strconv.ParseInt(kib[0], 10, 64)
		r.Slab = n << 10
	}
	tcp := strings.Fields(fieldOf("/proc/net/sockstat", "TCP", ":"))
	for i := 0; i+1 < len(tcp); i += 2 {
		if tcp[i] == "mem" {
			n, _ := strconv.ParseInt(tcp[i+1], 10, 64)
			r.Sockets = n * int64(os.Getpagesize())
		}
	}
	return r, nil
}

// millionMeter is a reading of the clocks.
type millionMeter struct {
	m            *million
	at           time.Time
	nodes, crowd time.Duration
	all          time.Duration
}

func (m *million) meter() (*millionMeter, error) {
	r := &millionMeter{m: m, at: time.Now(), all: machineBusy()}
	var err error
	if r.nodes, err = cpuOf(m.nodePIDs()); err != nil {
		return nil, err
	}
	r.crowd, err = cpuOf(m.crowdPIDs())
	return r, err
}

// read returns the use since the reading.
func (r *millionMeter) read() (millionUse, error) {
	now, err := r.m.meter()
	if err != nil {
		return millionUse{}, err
	}
	u := millionUse{
		Seconds: now.at.Sub(r.at).Seconds(), CPU: (now.nodes - r.nodes).Seconds(), CrowdCPU: (now.crowd - r.crowd).Seconds(),
	}
	u.Others = max(0, ratio((now.all-r.all).Seconds()-u.CPU-u.CrowdCPU, u.Seconds*float64(cores())))
	return u, nil
}

// millionUse is the CPU of a step.
type millionUse struct {
	Seconds  float64 `json:"seconds"`
	CPU      float64 `json:"cpu_seconds"`       // of the nodes
	CrowdCPU float64 `json:"crowd_cpu_seconds"` // of the clients
	Others   float64 `json:"other_cpu_share"`   // of the machine, by other processes
}
