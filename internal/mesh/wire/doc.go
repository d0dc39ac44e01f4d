// Package wire joins Linux network namespaces by a switch in user space, so that a test decides what the network does
// to each frame: delay, loss, reordering, duplication, a rate limit, a small MTU without an error message, or no
// delivery at all, in either direction and changed at any time.
//
// Each namespace has one TAP device, and the switch forwards Ethernet frames between them. TCP, IP and all timers are
// those of the kernel. The package needs root.
//
// Differences to a real network:
//   - A namespace never loses its carrier: a link that is down swallows frames, as a broken router does.
//   - Address resolution (ARP, neighbor discovery) passes in spite of all rules, as behind a router. The kernel
//     therefore reports no unreachable host, which would end an attempt early.
//   - Frames are read and written one by one. Two busy cores pass some tens of thousands of frames a second.
//   - A delay is exact to about a millisecond, and later on a busy machine.
package wire
