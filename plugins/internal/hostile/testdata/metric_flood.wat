;; It counts under ever more names.
(module
  (import "ev1" "metric_add" (func $add (param i32 i32 i64) (result i32)))
  (memory (export "memory") 17)
  (data (i32.const 8) "aaaaaaaa")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local i64)
    (loop
      (local.set 2 (i64.add (local.get 2) (i64.const 1)))
      (i32.store8 (i32.const 15) (i32.add (i32.const 97) (i32.and (i32.wrap_i64 (local.get 2)) (i32.const 15))))
      (drop (call $add (i32.const 8) (i32.const 8) (i64.const 1)))
      (drop (call $add (i32.const 8) (i32.const 1000) (i64.const 1)))
      (br 0))
    (i64.const 0)))
