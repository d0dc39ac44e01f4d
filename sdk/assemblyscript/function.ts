// The exports of a function: export * from "edgerelay/function".
export {
  ev_abi_version, ev_buffer, ev_init, ev_on_connect, ev_on_message, ev_on_close, ev_on_result, ev_on_alarm,
} from "./assembly/index";
