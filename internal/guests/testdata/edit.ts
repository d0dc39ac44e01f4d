// The benchmark's plugin for edits, see edit-go.
import { Event } from "../../../sdk/assemblyscript/assembly/index";
export { ev_abi_version, ev_buffer } from "../../../sdk/assemblyscript/assembly/index";

export function ev_on_event(group: u32, payload: u32): u64 {
  const e = Event.read(group, payload);
  e.setString("status", "canceled");
  if (group == 5) {
    e.remove("uuid");
    e.rename("event", "kind");
  }
  return e.edited();
}
