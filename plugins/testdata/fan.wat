;; It sends sixteen events to another group for each, and drops its own.
(module
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "ga{}")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (local $n i32)
    (i32.store8 (i32.const 17) (i32.add (i32.load8_u (i32.const 1025)) (i32.const 1))) ;; gb after ga
    (loop
      (drop (call $emit (i32.const 16) (i32.const 2) (i32.const 18) (i32.const 2) (i64.const -1)))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get $n) (i32.const 16))))
    (i64.const 1)))
