;; Its result is what the payload's first eight bytes say; on a subscription, what the user, a decimal number, says. For the fuzz target of results.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func $answer (param i32) (result i64) (i64.load (i32.add (i32.const 1024) (local.get 0))))
  (func (export "ev_on_event") (param i32 i32) (result i64) (call $answer (local.get 0)))
  (func (export "ev_on_connect") (param i32) (result i64) (call $answer (i32.const 0)))
  (func (export "ev_on_message") (param i32 i32) (result i64) (call $answer (i32.const 0)))
  (func (export "ev_on_close") (param i32 i32) (result i64) (call $answer (i32.const 0)))
  (func (export "ev_on_alarm") (param i32 i32) (result i64) (call $answer (local.get 0)))
  (func (export "ev_on_class") (param i32 i32 i32) (result i64) (call $answer (local.get 1)))
  (func (export "ev_on_subscribe") (param i32) (result i64) (local $r i64) (local $d i32) (local $at i32)
    (local.set $at (i32.const 1032)) ;; after {"user":
    (block $end (loop $digit
      (local.set $d (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))
      (br_if $end (i32.ge_u (local.get $d) (i32.const 10)))
      (local.set $r (i64.add (i64.mul (local.get $r) (i64.const 10)) (i64.extend_i32_u (local.get $d))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $digit)))
    (local.get $r)))
