// Marks events with the status failed and drops all other events with a status.
import { Event, PASS, DROP } from "edgerelay";
export { ev_abi_version, ev_buffer } from "edgerelay";

export function ev_on_event(group: u32, payload: u32): u64 {
  const e = Event.read(group, payload);
  if (e.is("status", "failed")) {
    e.set("seen", "true");
    return e.edited();
  }
  return e.has("status") ? DROP : PASS;
}
