;; It fills and moves its whole memory of 32 MiB, again and again.
(module
  (memory (export "memory") 512)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (loop
      (memory.fill (i32.const 0) (i32.const 7) (i32.const 0x2000000))
      (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x1ffffff))
      (br 0))
    (i64.const 0)))
