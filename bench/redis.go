//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// redisServer is the Redis of one session, without persistence, as AWX runs Redis.
type redisServer struct {
	*process
	addr string
	ctl  *respConn
}

func startRedis(dir string) (*redisServer, error) {
	bin, err := need("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p, err := start(exec.Command(bin, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--save", "",
		"--appendonly", "no"), false)
	if err != nil {
		return nil, err
	}
	r := &redisServer{process: p, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	if err := p.ready(listening("tcp4", r.addr)); err != nil {
		p.stop()
		return nil, err
	}
	if r.ctl, err = dialRESP(r.addr); err != nil {
		p.stop()
		return nil, err
	}
	return r, nil
}

// traffic is the bytes that Redis has received from and sent to all its clients.
type traffic struct{ in, out int64 }

func (t traffic) minus(o traffic) traffic { return traffic{t.in - o.in, t.out - o.out} }

// traffic reads the counters. The reading itself causes traffic; two readings in a row show how much.
func (r *redisServer) traffic() (traffic, error) {
	reply, err := r.ctl.do("INFO", "stats")
	if err != nil {
		return traffic{}, fmt.Errorf("INFO stats: %w", err)
	}
	var t traffic
	for line := range strings.Lines(reply.text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch name {
		case "total_net_input_bytes":
			t.in = n
		case "total_net_output_bytes":
			t.out = n
		}
	}
	if t.in == 0 {
		return t, fmt.Errorf("INFO stats has no total_net_input_bytes: %.200q", reply.text)
	}
	return t, nil
}

// fillKey puts n events of s into the channel key of the group's one member, as if sent earlier.
func (r *redisServer) fillKey(group string, s *source, n int) error {
	members, err := r.ctl.do("ZRANGE", layerPrefix+":group:"+group, "0", "-1")
	if err != nil {
		return fmt.Errorf("read the group: %w", err)
	}
	if len(members.array) != 1 {
		return fmt.Errorf("group %s has %d members, want one to fill its key", group, len(members.array))
	}
	member := members.array[0].text
	var clock scoreClock
	for done := 0; done < n; {
		batch := min(500, n-done)
		for range batch {
			r.ctl.queue("ZADD", channelKey(member), clock.next(), string(groupMessage(awxMessage, s.event(), []string{member})))
		}
		r.ctl.queue("EXPIRE", channelKey(member), strconv.Itoa(layerExpiry))
		if err := r.ctl.flush(); err != nil {
			return fmt.Errorf("fill the key: %w", err)
		}
		for range batch + 1 {
			if _, err := r.ctl.reply(); err != nil {
				return fmt.Errorf("fill the key: %w", err)
			}
		}
		done += batch
	}
	return nil
}
