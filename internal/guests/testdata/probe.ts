// The probe, see probe-go.
import {
  Event, Request, PASS, DROP, ALLOW, DENY, allowAs, denyBecause, replace, fail, emit, emitAt, audience, count, kvGet, kvSet, kvIncr, now,
  config, configText, configInt, configList, log, ERROR,
} from "../../../sdk/assemblyscript/assembly/index";
export { ev_abi_version, ev_buffer } from "../../../sdk/assemblyscript/assembly/index";

export function ev_init(): i32 {
  const why = configText("refuse");
  if (why === null) return 0;
  log(ERROR, why);
  return 1;
}

function yes(b: bool): u64 { return replace(b ? "yes" : "no"); }
function orNone(s: string | null): u64 { return replace(s === null ? "none" : s); }

let e = Event.read(0, 0);
function arg(name: string): string {
  const s = e.text(name);
  return s === null ? "" : s;
}

// edit makes the edits that the event's source names, and emits what each of them returns.
function edit(): u64 {
  const source = e.source;
  if (source === null) return fail("no edits");
  const list = source.split("\x03");
  let made = "";
  for (let i = 0; i < list.length; i++) {
    const p = list[i].split("\x02");
    let ok = false;
    if (p[0] == "set") ok = e.set(p[1], p[2]);
    if (p[0] == "set_string") ok = e.setString(p[1], p[2]);
    if (p[0] == "remove") ok = e.remove(p[1]);
    if (p[0] == "rename") ok = e.rename(p[1], p[2]);
    made += ok ? "1" : "0";
  }
  emit("edits-made", made);
  return e.edited();
}

export function ev_on_event(group: u32, payload: u32): u64 {
  e = Event.read(group, payload);
  if (e.group == "edits") return edit();
  const what = arg("do");
  if (what == "drop") return DROP;
  if (what == "error") return fail("it was asked for");
  if (what == "replace") return replace(arg("with"));
  if (what == "insert") return e.insert('"seen":true');
  if (what == "group") return replace(e.group);
  if (what == "payload") return replace(e.payload);
  if (what == "text") return orNone(e.text(arg("path")));
  if (what == "is") return yes(e.is(arg("path"), arg("want")));
  if (what == "has") return yes(e.has(arg("path")));
  if (what == "int") return replace(e.int(arg("path"), -1).toString());
  if (what == "find") return orNone(e.raw(arg("path")));
  if (what == "emit") return replace(emit(arg("to"), arg("with")).toString());
  if (what == "emit_at") return replace(emitAt(arg("to"), arg("with"), arg("at")).toString());
  if (what == "emit_for") emit("", "{}", 2);
  if (what == "audience") {
    audience(6);
    audience(12);
  }
  if (what == "count") return yes(count(arg("name"), 2));
  if (what == "kv_set") return yes(kvSet(arg("key"), arg("value"), 1000));
  if (what == "kv_get") return orNone(kvGet(arg("key")));
  if (what == "kv_incr") {
    const n = kvIncr(arg("key"), 3, 1000);
    return n == i64.MIN_VALUE ? replace("none") : replace(n.toString());
  }
  if (what == "now") return replace(now().toString());
  if (what == "source") return orNone(e.source);
  if (what == "position") return orNone(e.position);
  if (what == "replay") return yes(e.isReplay);
  if (what == "sent") return replace(e.sent.toString());
  if (what == "config") return replace(config());
  if (what == "config_text") return orNone(configText(arg("path")));
  if (what == "config_int") return replace(configInt(arg("path"), -1).toString());
  if (what == "config_list") return replace(configList(arg("path")).join(","));
  return PASS;
}

// ev_on_tick emits what the store holds for ticks to the group ticks, and fails if it is "error".
export function ev_on_tick(): u64 {
  const s = kvGet("tick");
  if (s === null) return PASS;
  if (s == "error") return fail("it was asked for");
  if (e.source !== null || e.sent >= 0 || e.position !== null) return fail("a tick is no event");
  audience(4);
  if (emit("", s) != -4) return fail("a tick has no group");
  return emit("ticks", s) ? fail("refused") : PASS;
}

export function ev_on_class(cls: u32, group: u32, payload: u32): u64 {
  if (cls == 1) return DROP;
  if (cls == 2) return replace(Event.read(group, payload).group);
  return PASS;
}

export function ev_on_subscribe(size: u32): u64 {
  const what = Request.read(size).text("user.do");
  if (what === null) return ALLOW;
  if (what == "deny") return DENY;
  if (what == "reason") return denyBecause("not yours");
  if (what == "class") return allowAs(5);
  return ALLOW;
}
