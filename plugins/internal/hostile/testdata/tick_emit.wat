;; Each tick emits sixteen large events to groups of its own.
(module
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 480)
  (data (i32.const 16) "bad-1")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (i64.const 0))
  (func (export "ev_on_tick") (result i64)
    (loop
      (i32.store8 (i32.const 20) (i32.add (i32.const 48) (i32.rem_u (i32.load8_u (i32.const 20)) (i32.const 10))))
      (br_if 0 (i32.eqz (call $emit (i32.const 16) (i32.const 5) (i32.const 65536) (i32.const 1000000) (i64.const -1)))))
    (i64.const 0)))
