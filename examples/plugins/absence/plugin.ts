// Sends an alert if no event of a group has come for some time, and another one when events come again.
import { Event, PASS, configInt, configList, configText, emit, fail, now, quote } from "../../../sdk/assemblyscript/assembly/index";
export { ev_abi_version, ev_buffer } from "../../../sdk/assemblyscript/assembly/index";

let seconds: i64 = 60;
let target = "alerts-absence";

// Group is a group that is watched.
class Group {
  silent: bool = false; // an alert has told so
  constructor(public last: i64) {}
}

// The plugin has a single instance, so these are all groups.
const groups = new Map<string, Group>();
const limit = 10000; // further groups are not watched

export function ev_init(): i32 {
  const s = configText("group");
  if (s !== null) target = s;
  seconds = configInt("seconds", 60);
  if (seconds < 1) {
    fail("config: seconds must be 1 or more");
    return 1;
  }
  const expected = configList("expect"); // watched from the beginning
  for (let i = 0; i < expected.length; i++) groups.set(expected[i], new Group(now()));
  return 0;
}

// report sends an alert about a group, and returns 0 or the reason why there is none.
function report(group: string, state: string, last: i64): i32 {
  return emit(target, '{"group":' + quote(group) + ',"state":"' + state + '","last_ms":' + last.toString() + "}");
}

export function ev_on_event(group: u32, payload: u32): u64 {
  const e = Event.read(group, payload);
  if (e.group == target) return PASS; // no alerts about alerts
  if (e.isReplay) return PASS; // an event of the past is no sign of life
  const at = now();
  if (!groups.has(e.group)) {
    if (groups.size < limit) groups.set(e.group, new Group(at));
    return PASS;
  }
  const g = groups.get(e.group);
  const last = g.last;
  g.last = at;
  if (!g.silent) return PASS;
  g.silent = false;
  const refused = report(e.group, "back", last);
  return refused ? fail("no alert is sent to " + target + ": " + refused.toString()) : PASS;
}

export function ev_on_tick(): u64 {
  const names = groups.keys(), at = now();
  for (let i = 0; i < names.length; i++) {
    const g = groups.get(names[i]);
    if (g.silent || at - g.last < seconds * 1000) continue;
    const refused = report(names[i], "silent", g.last);
    if (refused == -1) return PASS; // enough for one call: the next tick goes on
    if (refused) return fail("no alert is sent to " + target + ": " + refused.toString());
    g.silent = true;
  }
  return PASS;
}
