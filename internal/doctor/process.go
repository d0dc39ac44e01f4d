package doctor

// spareFiles are for everything but connections: Redis, peers, the API, logs, listeners.
const spareFiles = 200

// Files compares how many file descriptors the process may have with the connections that it may have to hold.
func Files(limit uint64, connections int) Finding {
	const check = "file descriptors"
	want := uint64(connections + spareFiles)
	switch {
	case limit == 0:
		return ok(check, "there is no limit that this system tells of")
	case connections == 0:
		return ok(check, "%d are allowed, which bounds the connections, since limits { connections } does not", limit)
	case limit < want:
		return warn(check, "set LimitNOFILE= in the systemd unit (or ulimits in the container), or lower limits { connections }",
			"%d are allowed, fewer than limits { connections %d } needs", limit, connections)
	}
	return ok(check, "%d are allowed, for at most %d connections", limit, connections)
}
