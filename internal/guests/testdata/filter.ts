// The benchmark's plugin: what passes has failed.
import { Event, PASS, DROP } from "../../../sdk/assemblyscript/assembly/index";
export { ev_abi_version, ev_buffer } from "../../../sdk/assemblyscript/assembly/index";

export function ev_on_event(group: u32, payload: u32): u64 {
  return Event.read(group, payload).is("status", "failed") ? PASS : DROP;
}
