;; It divides by zero.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (i64.div_u (i64.const 1) (i64.extend_i32_u (i32.sub (local.get 0) (local.get 0))))))
