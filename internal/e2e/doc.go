// Package e2e holds the end-to-end tests: the relay in a real Caddy with a real Redis, beside a real Daphne, with
// events of the real channels_redis. Package peers starts the processes.
//
//	go test ./internal/e2e/...                      everything, about a minute and a half on two cores
//	go test ./internal/e2e -run TestScenes/daphne   the client scenes on Daphne alone
//	go test ./internal/e2e -run TestScenes/relay    the same scenes on the relay
//	EDGERELAY_CADDY=$PWD/bin/caddy go test ./internal/e2e    with a binary that is there already
//	EDGERELAY_FUNCTIONS=full go test ./internal/e2e -run TestNodeWithFunctionIsKilled    with 10,000 clients
//
// A scene is a script of frames that a browser sends and must receive. Where the contract wants the relay to differ
// from Daphne, the scene has a step (differs) with the sentence of the contract and the behavior of both.
package e2e
