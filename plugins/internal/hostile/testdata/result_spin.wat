;; Its on_message makes requests, and its on_result never returns.
(module
  (import "ev1" "shared_set" (func $set (param i32 i32 i32 i32 i64 i32 i32) (result i64)))
  (memory (export "memory") 4)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_message") (param i32 i32) (result i64) (local $n i32)
    (loop $more
      (drop (call $set (i32.const 8) (i32.const 1) (i32.const 8) (i32.const 1) (i64.const 0) (i32.const 8) (i32.const 1)))
      (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 16))))
    (i64.const 0))
  (func (export "ev_on_result") (param i64 i32 i32) (result i64)
    (loop (br 0)) (i64.const 0))
  (data (i32.const 8) "k"))
