// Package state keeps the shared state of edge functions: values with compare-and-swap, counters and short lists, and
// alarms that call a function later.
//
// [Open] returns a [Store]. With [NewMemory] as its place, the state is in this process and ends with it; with a
// [relay.ScriptPipeliner], such as a channel layer in Redis, all nodes share it. [Store.Start] starts a request and
// never blocks; requests take effect in the order of the calls. [Schedule] fires the alarms that are due, each on one
// node at a time, at least once.
//
// In Redis, one Lua script does each request, with the bookkeeping of quotas. A writer for each shard sends waiting
// requests together and waits for the replies before it sends more. After a lost connection, a fence in Redis keeps
// requests that are still under way from taking effect after later ones.
// See docs/decisions/functions.md#why-does-a-fence-keep-late-requests-from-taking-effect
package state
