// Package plugins hosts WebAssembly plugins that filter and transform events group by group. It knows events as bytes and groups as
// names; it knows neither sockets nor Redis nor Caddy. What a plugin sees is ABI.md.
//
// A [Pipeline] is an ordered list of plugins, each bound to groups by patterns. [Pipeline.Apply] sets the list, [Pipeline.Deploy]
// replaces one plugin's module; both compile, check and try a module before it takes over between two events, and leave everything as
// it was if anything is wrong. [Pipeline.Process] takes an event through the plugins of its group; a group without plugins costs one
// table lookup.
//
// Isolation: every module is rewritten to count fuel (internal/metering), so that no guest can hold a thread; memory,
// tables, results and everything a host function keeps are bounded; a failed instance is thrown away. What a plugin
// cannot process is withheld, unless its [OnError] policy says otherwise; a hook that mostly fails in a group is set
// aside there for a while, and the policy answers.
package plugins
