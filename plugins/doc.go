// Package plugins hosts WebAssembly plugins that filter and transform events group by group. It knows events as bytes
// and groups as names; it knows neither sockets nor Redis nor Caddy. ABI.md describes the guest's side.
//
// A [Pipeline] is an ordered list of plugins, each bound to groups by patterns. [Pipeline.Apply] sets the list, and
// [Pipeline.Deploy] replaces the module of a plugin. Both compile, check and try a module before it becomes current
// between two events; after an error nothing has changed. [Pipeline.Prepare] and [Pipeline.Install] are the two steps
// of such a change: no lock is held while a module compiles or starts. [Pipeline.Process] takes an event through the
// plugins of its group. A group without plugins costs one table lookup.
//
// The path of an event: pipeline.go finds the group's steps (routes.go) and calls each plugin (plugin.go), which picks
// the live module (deployment.go), a slot of the module (slot.go) and its instance (instance.go). The circuit breakers
// (breaker.go) suspend calls that mostly fail, and supply.go replaces failed instances. tick.go calls instances at an
// interval, and generation.go identifies the modules that classify subscribers.
//
// The path of a module: module.go rewrites and checks it, code.go finds its compiled code in the store (codestore.go)
// or lets a [Compiler] compile it, such as a child process with limits (compile_child.go).
//
// Isolation: every module is rewritten to count fuel (internal/metering), so no guest can hold a thread. Memory,
// tables, results and all state that host functions keep are bounded. A failed instance is discarded. An event that a
// plugin cannot process is withheld unless the plugin's [OnError] policy says otherwise. If most calls of a hook fail
// in a group, its circuit breaker opens for that group, and the policy decides without a call.
package plugins
