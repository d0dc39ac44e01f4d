;; It passes a pointer outside its memory to the host.
(module
  (import "ev1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (call $log (i32.const 3) (i32.const -16) (i32.const 100)) (i64.const 0)))
