;; Its on_message takes all memory, and writes to it.
(module
  (memory (export "memory") 4)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_message") (param i32 i32) (result i64) (local $p i32)
    (loop $more
      (local.set $p (memory.grow (i32.const 16)))
      (if (i32.ne (local.get $p) (i32.const -1))
        (then (memory.fill (i32.shl (local.get $p) (i32.const 16)) (i32.const 1) (i32.const 1048576)) (br $more))))
    (i64.const 0)))
