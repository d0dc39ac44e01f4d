;; It grows a table for ever: host memory that no memory limit counts.
(module
  (memory (export "memory") 1)
  (table $t 1 externref)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (loop (drop (table.grow $t (ref.null extern) (i32.const 10000))) (br 0))
    (i64.const 0)))
