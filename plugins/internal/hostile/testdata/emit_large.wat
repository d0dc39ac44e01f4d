;; It emits as many and as large events as it may, for a large event, and returns a large result.
(module
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 480)
  (global $size (mut i32) (i32.const 1))
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local $n i32)
    ;; fill with spaces: UTF-8
    (local.set $n (i32.const 22000000))
    (loop
      (if (i32.gt_u (call $emit (i32.const 0) (i32.const 0) (i32.const 8388608) (local.get $n) (i64.const -1)) (i32.const 0))
        (then (local.set $n (i32.shr_u (local.get $n) (i32.const 1)))))
      (br_if 0 (i32.gt_u (local.get $n) (i32.const 1000))))
    (i64.const 0)))
