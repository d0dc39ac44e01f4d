;; Its ev_buffer never returns once an event is longer than the first buffer.
(module
  (memory (export "memory") 4)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32)
    (if (i32.gt_u (local.get 0) (i32.const 8192)) (then (loop (br 0))))
    (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (i64.const 0)))
