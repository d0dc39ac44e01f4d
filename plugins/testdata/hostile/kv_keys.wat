;; It sets a hundred keys and then looks up one of 16 MiB for ever.
(module
  (import "ev1" "kv_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "ev1" "kv_set" (func $set (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 257)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (local $n i32)
    (loop
      (i32.store (i32.const 0) (local.get $n))
      (drop (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1) (i64.const 0)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get $n) (i32.const 100))))
    (loop (drop (call $get (i32.const 0) (i32.const 16777216) (i32.const 0) (i32.const 0))) (br 0))
    (i64.const 0)))
