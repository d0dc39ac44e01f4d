;; A function that echoes each message, and lets the host answer a text of 100 times y.
(module
  (import "ev1" "auto_response" (func $auto (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32)
    (select (i32.const 1024) (i32.const 0) (i32.le_u (local.get 0) (i32.const 65536))))
  (func (export "ev_init") (result i32)
    (memory.fill (i32.const 8) (i32.const 121) (i32.const 100))
    (call $auto (i32.const 8) (i32.const 100) (i32.const 8) (i32.const 100)))
  (func (export "ev_on_message") (param i32) (param $n i32) (result i64)
    (i64.or (i64.shl (i64.const 1024) (i64.const 32)) (i64.extend_i32_u (local.get $n)))))
