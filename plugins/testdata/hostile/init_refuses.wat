;; Its ev_init says no and why.
(module
  (import "ev1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "no words are configured")
  (func (export "ev_init") (result i32) (call $log (i32.const 3) (i32.const 0) (i32.const 23)) (i32.const 1))
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (i64.const 0)))
