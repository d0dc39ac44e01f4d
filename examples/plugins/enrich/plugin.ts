// Adds the severity of a status, whether the status is final, and a link to the job, so that pages need no rules of
// their own.
import { Event, PASS, configText, log, ERROR } from "../../../sdk/assemblyscript/assembly/index";
export { ev_abi_version, ev_buffer } from "../../../sdk/assemblyscript/assembly/index";

let site = "";

export function ev_init(): i32 {
  const s = configText("site");
  if (s === null) return 0;
  if (!s.startsWith("https://") && !s.startsWith("http://")) {
    log(ERROR, "config: site is the address of the AWX site, such as https://awx.example.com");
    return 1;
  }
  site = s.endsWith("/") ? s.substring(0, s.length - 1) : s;
  return 0;
}

// severity returns the severity of a status; "" for an unknown status.
function severity(status: string): string {
  if (status == "failed" || status == "error") return "error";
  if (status == "canceled") return "warning";
  if (status == "successful") return "success";
  if (status == "new" || status == "pending" || status == "waiting" || status == "running") return "info";
  return "";
}

// page returns the name of AWX's page for a kind of job; "" for an unknown kind.
function page(kind: string | null): string {
  if (kind === null || kind == "job") return "playbook";
  if (kind == "workflow_job") return "workflow";
  if (kind == "project_update") return "project";
  if (kind == "inventory_update") return "inventory";
  if (kind == "ad_hoc_command") return "command";
  if (kind == "system_job") return "management";
  return "";
}

export function ev_on_event(group: u32, payload: u32): u64 {
  const e = Event.read(group, payload), status = e.text("status");
  if (status === null) return PASS;
  const s = severity(status);
  if (s == "") return PASS;
  e.setString("severity", s);
  e.set("final", s == "info" ? "false" : "true");
  const id = e.int("unified_job_id", -1), p = page(e.text("type"));
  if (site.length && id >= 0 && p.length) e.setString("link", site + "/#/jobs/" + p + "/" + id.toString() + "/output");
  return e.edited();
}
