;; It emits sixteen events to each of two groups, of which one is its own, for every event, and passes the event.
(module
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "bad-1bad-2")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (loop
      (drop (call $emit (i32.const 16) (i32.const 5) (i32.const 1024) (local.get 0) (i64.const -1)))
      (br_if 0 (i32.eqz (call $emit (i32.const 21) (i32.const 5) (i32.const 1024) (local.get 0) (i64.const -1)))))
    (i64.const 0)))
