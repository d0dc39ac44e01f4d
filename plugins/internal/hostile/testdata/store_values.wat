;; It stores and reads values as large as the store, for ever.
(module
  (import "ev1" "kv_set" (func $set (param i32 i32 i32 i32 i64) (result i32)))
  (import "ev1" "kv_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 33)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (drop (call $set (i32.const 0) (i32.const 8) (i32.const 1024) (i32.const 1000000) (i64.const 0)))
    (loop
      (drop (call $get (i32.const 0) (i32.const 8) (i32.const 1024) (i32.const 0)))
      (br 0))
    (i64.const 0)))
