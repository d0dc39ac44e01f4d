;; Its on_message sends and publishes as much as the host takes, without end.
(module
  (import "ev1" "send" (func $send (param i32 i32 i32) (result i32)))
  (import "ev1" "publish" (func $publish (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_message") (param i32 i32) (result i64)
    (loop $more
      (drop (call $send (i32.const 1) (i32.const 65536) (i32.const 65536)))
      (br_if $more (i32.eqz (call $publish (i32.const 8) (i32.const 5) (i32.const 0) (i32.const 0)
        (i32.const 131072) (i32.const 65536) (i32.const 0)))))
    (i64.const 0))
  (data (i32.const 8) "bad-0"))
