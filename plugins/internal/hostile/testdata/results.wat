;; Its result is as long as a result may be.
(module
  (memory (export "memory") 33)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (i64.const 0x0010000000100000)))
