// SDK for plugins of the edgerelay websocket relay in AssemblyScript.
//
//     import { Event, PASS, DROP } from "edgerelay";
//     export { ev_abi_version, ev_buffer } from "edgerelay";
//
//     export function ev_on_event(group: u32, payload: u32): u64 {
//       const e = Event.read(group, payload);
//       return e.is("status", "failed") ? PASS : DROP;
//     }
//
// A plugin exports its hooks: ev_init(): i32, ev_on_event, ev_on_class(class, group, payload), ev_on_subscribe(size)
// and ev_on_tick(): u64. A hook without an export costs the relay nothing. The module imports only the host functions
// that the code calls. Functions marked with a grant need that grant in the plugin's block of the Caddyfile. An
// instance handles one call at a time. A plugin runs in several instances, which share only the key-value store.
//
// Plugins that answer clients are functions: see function.ts.

export {
  PASS, DROP, ALLOW, DENY, allowAs, denyBecause, DEBUG, EVERYBODY, ev_abi_version, ev_buffer, replace, replaceBytes,
  fail, Document, Event, Request, log, config, configText, configInt, configList, audience, emit, emitAt, count,
  kvGet, kvSet, kvIncr, now, quote, INFO, WARN, ERROR,
} from "./core";
export { Edits } from "./edits";
export {
  ACCEPT, GONE, OK, REJECT, rejectBecause, rejectWith, Client, Connect, Message, Closing, Alarm, publish, publishMessage,
  autoResponse, onInit, onConnect, onMessage, onClose, onResult, onAlarm, ev_init, ev_on_connect, ev_on_message,
  ev_on_close, ev_on_result, ev_on_alarm,
} from "./function";
export {
  Then, then, shared, alarms, HTTPRequest, fetch, postJSON, Response, STATUS_OK, STATUS_NONE, STATUS_CONFLICT,
  STATUS_UNAVAILABLE, STATUS_TOO_LARGE, STATUS_DENIED, STATUS_INVALID, STATUS_BUSY, object, textAt,
} from "./service";
