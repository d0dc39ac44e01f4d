;; Calls of 40,000 rounds. An event asks for the time in the middle. The class of a subscription is the number of them.
(module
  (import "ev1" "now_ms" (func $now (result i64)))
  (memory (export "memory") 1)
  (global $count (mut i64) (i64.const 0))
  (func $work
    (local $n i32)
    (loop
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get $n) (i32.const 20000)))))
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (call $work)
    (drop (call $now))
    (call $work)
    (i64.const 0))
  (func (export "ev_on_subscribe") (param i32) (result i64)
    (call $work)
    (call $work)
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (i64.add (i64.const 256) (global.get $count))))
