// Of all events that have a status it lets failures through, and marks them.
import { Event, PASS, DROP } from "./edgerelay";
export { ev_abi_version, ev_buffer } from "./edgerelay";

export function ev_on_event(group: u32, payload: u32): u64 {
  const e = Event.read(group, payload);
  if (e.is("status", "failed")) return e.insert('"seen":true');
  return e.has("status") ? DROP : PASS;
}
