// Package hub is the engine of edgerelay: it holds the sessions of one node and writes the events of their groups to
// them. The documentation of package relay follows an event through its files.
package hub
