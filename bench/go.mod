module github.com/edgerelay/edgerelay/bench

go 1.26.0

require github.com/edgerelay/edgerelay v0.0.0

require github.com/coder/websocket v1.8.15

require golang.org/x/text v0.43.0 // indirect

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/klauspost/compress v1.20.1 // indirect
	github.com/philhofer/fwd v1.2.0 // indirect
	github.com/redis/go-redis/v9 v9.23.0 // indirect
	github.com/tinylib/msgp v1.6.5 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.50.0 // indirect
)

replace github.com/edgerelay/edgerelay => ../
