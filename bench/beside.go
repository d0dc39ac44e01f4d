//go:build linux

package main

// besideRow measures the latency of normal clients while one client in a hundred reads a kilobyte per second.
// Sessions with and without slow readers alternate.
func (p *plan) besideRow(s *session) row {
	r := s.newRow(kindBeside)
	r.Size, r.Rate = 2048, besideRate
	r.Events = int(r.Rate * p.seconds)
	return r
}

// besideRate is in events per second. It is half the rate of paced rows, since latency near a core's limit would show
// the limit, and ten times the rate of a slow reader.
const besideRate = 5

// slowBacklog is published before the measurement, so that slow readers have a queue at the server from the first
// event on. Together with the measured events the queue stays below the default limit of 1 MiB.
const slowBacklog = 600 << 10

// besideSlow builds a backlog at the slow readers and measures a paced row at the other clients. At the end it
// publishes more than the limit of a queue and counts the disconnected slow readers.
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

// flood publishes n events in bursts that normal clients keep up with.
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

// slowEnds counts the slow readers that the server has disconnected: exactly these miss one more event. A slow reader
// itself notices later, because its close frame follows the bytes in the kernel's buffers.
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
