;; It writes a thousand vectors of one short line each, again and again.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "x\0a")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 16384))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (local $at i32)
    (loop ;; the vectors, from 1024 on
      (i32.store (i32.add (i32.const 1024) (local.get $at)) (i32.const 16))
      (i32.store (i32.add (i32.const 1028) (local.get $at)) (i32.const 2))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if 0 (i32.lt_u (local.get $at) (i32.const 8192))))
    (local.set $at (i32.const 0))
    (loop
      (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 1024) (i32.const 0)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get $at) (i32.const 2000))))
    (i64.const 0)))
