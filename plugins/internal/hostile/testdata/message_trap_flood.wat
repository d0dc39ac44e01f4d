;; Its on_message makes as many effects as the host takes, and then fails.
(module
  (import "ev1" "send" (func $send (param i32 i32 i32) (result i32)))
  (import "ev1" "publish" (func $publish (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_message") (param i32 i32) (result i64)
    (loop $more
      (br_if $more (i32.eqz (call $send (i32.const 1) (i32.const 65536) (i32.const 65536)))))
    unreachable))
