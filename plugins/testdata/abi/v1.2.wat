;; A module for ABI 1.2. It stays as it is: every later relay of major version 1 must run it.
;; on_event drops the event, and emits its payload to the group "kept" with the event's position.
(module
  (import "ev1" "event_position" (func $position (param i32 i32) (result i32)))
  (import "ev1" "emit_at" (func $emit_at (param i32 i32 i32 i32 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "kept")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param $group i32) (param $payload i32) (result i64) (local $n i32)
    (local.set $n (call $position (i32.const 64) (i32.const 32)))
    (if (i32.lt_s (local.get $n) (i32.const 0)) (then (local.set $n (i32.const 0))))
    (drop (call $emit_at (i32.const 0) (i32.const 4)
      (i32.add (i32.const 1024) (local.get $group)) (local.get $payload) (i64.const -1)
      (i32.const 64) (local.get $n)))
    (i64.const 1)))
