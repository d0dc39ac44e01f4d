;; A module for ABI 1.0. It stays as it is: every later relay of major version 1 must run it.
;; on_event emits the payload to the group "copies" and passes the event; on_subscribe denies; on_class hides the event
;; from class 1.
(module
  (import "ev1" "emit" (func $emit (param i32 i32 i32 i32 i64) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "copies")
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param $group i32) (param $payload i32) (result i64)
    (drop (call $emit (i32.const 0) (i32.const 6)
      (i32.add (i32.const 1024) (local.get $group)) (local.get $payload) (i64.const -1)))
    (i64.const 0))
  (func (export "ev_on_subscribe") (param i32) (result i64) (i64.const 1))
  (func (export "ev_on_class") (param $class i32) (param i32 i32) (result i64)
    (i64.extend_i32_u (i32.eq (local.get $class) (i32.const 1)))))
