;; A module for ABI 1.1. It stays as it is: every later relay of major version 1 must run it.
;; on_event replaces the payload by the event's source as a JSON string; on_tick emits "tick" to the group "ticks".
(module
  (import "ev1" "event_source" (func $source (param i32 i32) (result i32)))
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "ticks")
  (data (i32.const 16) "\"tick\"")
  (data (i32.const 64) "\"")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local $n i32)
    (local.set $n (call $source (i32.const 65) (i32.const 32)))
    (i32.store8 (i32.add (i32.const 65) (local.get $n)) (i32.const 34))
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.extend_i32_u (i32.add (local.get $n) (i32.const 2)))))
  (func (export "ev_on_tick") (result i64)
    (drop (call $emit (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 6) (i64.const -1)))
    (i64.const 0)))
