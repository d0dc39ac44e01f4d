;; It grows its memory by 480 pages, and touches the last one, with every event of a new instance, and then traps.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (drop (memory.grow (i32.const 480)))
    (i32.store (i32.const 31000000) (i32.const 1))
    (unreachable)))
