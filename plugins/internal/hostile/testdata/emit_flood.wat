;; It emits for ever, also to groups without a name.
(module
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 17)
  (data (i32.const 8) "bad-1")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local i64)
    (loop
      (drop (call $emit (i32.const 8) (i32.const 5) (i32.const 65536) (i32.const 1000000) (i64.const -1)))
      (drop (call $emit (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 64) (i64.const 1)))
      (drop (call $emit (i32.const 0) (i32.const 5) (i32.const 1024) (i32.const 64) (i64.const 1)))
      (br 0))
    (i64.const 0)))
