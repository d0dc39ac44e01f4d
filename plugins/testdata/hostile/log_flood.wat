;; It logs for ever.
(module
  (import "ev1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (loop (call $log (i32.const 3) (i32.const 0) (i32.const 4096)) (br 0))
    (i64.const 0)))
