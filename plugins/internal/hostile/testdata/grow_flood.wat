;; It asks for no page and for too many pages, for ever.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (loop
      (drop (memory.grow (i32.const 0)))
      (drop (memory.grow (i32.const -1)))
      (br 0))
    (i64.const 0)))
