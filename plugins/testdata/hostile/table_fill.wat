;; It fills a large table for ever.
(module
  (memory (export "memory") 1)
  (table $t 100000 externref)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (loop (table.fill $t (i32.const 0) (ref.null extern) (i32.const 100000)) (br 0))
    (i64.const 0)))
