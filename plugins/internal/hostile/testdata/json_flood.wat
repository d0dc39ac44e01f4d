;; It searches a large payload for ever.
(module
  (import "ev1" "json_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "ev1" "json_find" (func $find (param i32 i32) (result i64)))
  (memory (export "memory") 17)
  (data (i32.const 8) "a.0.b.1")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local i64)
    (loop
      (drop (call $get (i32.const 8) (i32.const 7) (i32.const 1000000) (i32.const 10000)))
      (drop (call $find (i32.const 8) (i32.const 7)))
      (br 0))
    (i64.const 0)))
