;; It recurses as deeply as it may, returns, and does so again for ever: stack is lent, work is not.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func $down (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
      (else (i32.const 0))))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (loop (drop (call $down (i32.const 10000))) (br 0))
    (i64.const 0)))
