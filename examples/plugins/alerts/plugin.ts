// Sends a short alert about every failure of every job to one group, so that a page needs a single subscription.
import { Event, PASS, configText, emit, fail, quote } from "../../../sdk/assemblyscript/assembly/index";
export { ev_abi_version, ev_buffer } from "../../../sdk/assemblyscript/assembly/index";

let target = "alerts-failed";

export function ev_init(): i32 {
  const s = configText("group");
  if (s !== null) target = s;
  return 0;
}

// failed returns whether an event reports the failure of a task, unless ignored, or of a job.
function failed(e: Event): bool {
  if (e.is("event", "runner_on_failed")) return !e.is("event_data.ignore_errors", "true");
  return e.is("event", "runner_on_unreachable") || e.is("status", "failed") || e.is("status", "error");
}

// member returns a member of the alert with the event's value at path; "" if there is no value.
function member(e: Event, name: string, path: string): string {
  const raw = e.raw(path);
  return raw === null ? "" : ',"' + name + '":' + raw;
}

export function ev_on_event(group: u32, payload: u32): u64 {
  const e = Event.read(group, payload);
  if (!failed(e) || e.group == target) return PASS; // no alerts about alerts
  const alert = '{"from":' + quote(e.group) + member(e, "job", "job") + member(e, "job", "unified_job_id") + member(e, "event", "event") +
    member(e, "status", "status") + member(e, "host", "event_data.host") + member(e, "task", "event_data.task") +
    member(e, "message", "event_data.res.msg") + "}";
  const refused = emit(target, alert);
  return refused ? fail("no alert is sent to " + target + ": " + refused.toString()) : PASS;
}
