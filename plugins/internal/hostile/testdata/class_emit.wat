;; Its on_class emits and logs for ever, though that has no effect.
(module
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (import "ev1" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 480)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_class") (param i32 i32 i32) (result i64)
    (loop
      (drop (call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16000000) (i64.const -1)))
      (br 0))
    (i64.const 0)))
