;; It stores across the borders of pages, over the whole memory, again and again.
(module
  (memory (export "memory") 500)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local i32)
    (loop
      (i64.store offset=4092 (local.get 2) (i64.const -1))
      (local.set 2 (i32.rem_u (i32.add (local.get 2) (i32.const 1220608)) (i32.const 32751616)))
      (br 0))
    (i64.const 0)))
