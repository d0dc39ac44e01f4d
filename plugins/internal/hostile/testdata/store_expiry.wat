;; It fills the store and then makes a full store search for expired values, for ever.
(module
  (import "ev1" "kv_set" (func $set (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 17)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local i64)
    (loop
      (local.set 2 (i64.add (local.get 2) (i64.const 1)))
      (i64.store (i32.const 0) (local.get 2))
      (drop (call $set (i32.const 0) (i32.const 3) (i32.const 1024) (i32.const 1) (i64.const 1)))
      (br 0))
    (i64.const 0)))
