package doctor

// spareFiles is the number of descriptors for everything except connections: Redis, peers, the API, logs, listeners.
const spareFiles = 200

// Files compares the limit on file descriptors with the limit on connections. 0 is an unknown limit on descriptors, and
// no limit on connections.
func Files(limit uint64, connections int) Finding {
	const check = "file descriptors"
	want := uint64(connections + spareFiles)
	switch {
	case limit == 0:
		return ok(check, "this system reports no limit")
	case connections == 0:
		return ok(check, "the limit of %d limits connections, too, because limits { connections } is not set", limit)
	case limit < want:
		return warn(check, "raise LimitNOFILE= in the systemd unit (ulimits in a container), "+
			"or lower limits { connections }",
			"the limit of %d is too low for limits { connections %d }", limit, connections)
	}
	return ok(check, "the limit of %d suffices for %d connections", limit, connections)
}
