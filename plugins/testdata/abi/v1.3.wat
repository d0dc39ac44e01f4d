;; A module for ABI 1.3. It stays as it is: every later relay of major version 1 must run it.
;; A function: on_connect attaches "seen", on_message echoes, on_close does nothing.
(module
  (import "ev1" "attachment_set" (func $attach (param i32 i32) (result i32)))
  (import "ev1" "send" (func $send (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "seen")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_connect") (param i32) (result i64)
    (drop (call $attach (i32.const 0) (i32.const 4)))
    (i64.const 0))
  (func (export "ev_on_message") (param $kind i32) (param $n i32) (result i64)
    (drop (call $send (local.get $kind) (i32.const 1024) (local.get $n)))
    (i64.const 0))
  (func (export "ev_on_close") (param i32 i32) (result i64) (i64.const 0)))
