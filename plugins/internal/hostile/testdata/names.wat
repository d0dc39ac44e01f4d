;; A recursion that ends in a trap, thirty frames deep. The test gives the function a name of megabytes.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func $down (param i32)
    (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1)))) (else (unreachable))))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (call $down (i32.const 40)) (i64.const 0)))
