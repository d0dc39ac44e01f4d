;; Its on_message and its on_result make as many large requests as the host takes.
(module
  (import "ev1" "shared_set" (func $set (param i32 i32 i32 i32 i64 i32 i32) (result i64)))
  (memory (export "memory") 4)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func $all (result i64)
    (loop $more
      (br_if $more (i64.gt_s (call $set (i32.const 8) (i32.const 1) (i32.const 65536) (i32.const 65536) (i64.const 0)
        (i32.const 65536) (i32.const 1024)) (i64.const 0))))
    (i64.const 0))
  (func (export "ev_on_message") (param i32 i32) (result i64) (call $all))
  (func (export "ev_on_result") (param i64 i32 i32) (result i64) (call $all))
  (data (i32.const 8) "k"))
