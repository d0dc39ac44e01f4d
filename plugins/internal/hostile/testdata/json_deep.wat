;; It searches for a long path that is not there, for ever.
(module
  (import "ev1" "json_get" (func $get (param i32 i32 i32 i32) (result i32)))
  (import "ev1" "json_find" (func $find (param i32 i32) (result i64)))
  (memory (export "memory") 300)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 8))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (memory.fill (i32.const 10000000) (i32.const 46) (i32.const 1000000))
    (loop
      (drop (call $find (i32.const 10000000) (i32.const 1000000)))
      (drop (call $get (i32.const 10000000) (i32.const 1000) (i32.const 0) (i32.const 0)))
      (br 0))
    (i64.const 0)))
