//go:build linux

package main

// besideRow measures what the others feel when one client in a hundred reads a kilobyte a second: sessions with and without them take turns.
func (p *plan) besideRow(s *session) row {
	r := s.newRow(kindBeside)
	r.Size, r.Rate = 2048, besideRate
	r.Events = int(r.Rate * p.seconds)
	return r
}

// besideRate is how many events a second there are: half of what the paced rows have, for latency near a core's limit would tell of the
// limit. It is ten times what a slow reader takes.
const besideRate = 5

// slowBacklog is what is published before the measurement, so that slow readers have a queue at the server from
// the first event on; with what follows it stays below the default limit of 1 MiB.
const slowBacklog = 600 << 10

// besideSlow lets a backlog grow at the slow readers, and then measures a paced row at the others. In the end more is published than the
// slow readers may have waiting, and what became of them is noted.
func (s *session) besideSlow(r *row) error {
	s.src.resize(r.Size)
	before, err := rssOf(s.run.pids())
	if err != nil {
		return err
	}
	backlog := *r
	if err := s.flood(&backlog, slowBacklog/r.Size); err != nil {
		return err
	}
	if err := s.paced(r); err != nil {
		return err
	}
	if s.slow == 0 {
		return nil
	}
	after, err := rssOf(s.run.pids())
	if err != nil {
		return err
	}
	r.QueueKiB = float64(after-before) / 1024 / float64(s.slow)
	if err := s.flood(&backlog, 2*slowBacklog/r.Size); err != nil {
		return err
	}
	r.SlowEnds, err = s.slowEnds()
	return err
}

// flood publishes n events in bursts that the others keep up with.
func (s *session) flood(r *row, n int) error {
	for left := n; left > 0; left -= 50 {
		if err := s.fleet.begin(s.src.last()+int64(min(left, 50)), 16); err != nil {
			return err
		}
		if err := s.run.emit.burst(s.src, min(left, 50)); err != nil {
			return err
		}
		if _, err := s.collect(r); err != nil {
			return err
		}
	}
	return nil
}

// slowEnds counts the slow readers that the server has given up: one more event is missed by just these. They
// themselves learn of it later, for the close frame stands behind what the kernel holds for them.
func (s *session) slowEnds() (int64, error) {
	const missed = "edgerelay_deliveries_missed_total"
	before, err := metric(s.run.admin, missed)
	if err != nil {
		return 0, err
	}
	one := s.newRow(kindBeside)
	if err := s.flood(&one, 1); err != nil {
		return 0, err
	}
	after, err := metric(s.run.admin, missed)
	return int64(after - before), err
}
