;; Its result is as large as its memory.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (drop (memory.grow (i32.const 100))) (i64.or (i64.shl (i64.const 16) (i64.const 32)) (i64.const 6000000))))
