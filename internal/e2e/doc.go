// Package e2e holds the end-to-end tests: the relay in a real Caddy, before a real
// Redis, beside a real Daphne, fed by the real channels_redis. It has no code of its
// own; package peers starts the real things.
//
//	go test ./internal/e2e/...                      everything, about a minute and a half on two cores
//	go test ./internal/e2e -run TestScenes/daphne   the client scenes on Daphne alone
//	go test ./internal/e2e -run TestScenes/relay    the same scenes on the relay
//	EDGERELAY_CADDY=$PWD/bin/caddy go test ./internal/e2e    with a binary that is there already
//
// A scene is a script of what a browser sends and must get, frame for frame. Where
// the contract has the relay do better than Daphne, the scene says so in a step of its
// own (differs), with the sentence that it rests on, and pins what both do.
package e2e
