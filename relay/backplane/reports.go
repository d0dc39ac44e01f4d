package backplane

import "time"

const (
	// reportEvery is the shortest time between reports of losses to a peer whose queue is not empty.
	reportEvery = time.Second
	// maxReports bounds the reports that are not confirmed; the last one takes what is beyond.
	maxReports = 64
)

// reports are the reports of losses that a relay was sent and has not confirmed. Their numbers begin with 1.
type reports struct {
	last uint64 // number of the last report
	list []report
	sent time.Time // of the last one
}

// report describes losses that the peer was told of.
type report struct {
	number, count uint64
	lostGroups
}

// isDue reports whether the last report was long enough ago.
func (r *reports) isDue() bool { return time.Since(r.sent) >= reportEvery }

// add records a report, and returns its number.
func (r *reports) add(count uint64, groups lostGroups) uint64 {
	r.last++
	r.sent = time.Now()
	n := len(r.list)
	if n < maxReports {
		r.list = append(r.list, report{number: r.last})
	} else {
		n--
	}
	r.list[n].number = r.last
	r.list[n].count += count
	r.list[n].merge(groups)
	return r.last
}

// confirm removes the reports up to a number.
func (r *reports) confirm(number uint64) {
	n := 0
	for n < len(r.list) && r.list[n].number <= number {
		n++
	}
	if r.list = r.list[n:]; len(r.list) == 0 {
		r.list = nil
	}
}

// take removes all reports, and returns them: they must be sent again.
func (r *reports) take() (list []report) {
	list, r.list = r.list, nil
	return list
}
