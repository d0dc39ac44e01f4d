;; It passes and traps in turn.
(module
  (memory (export "memory") 1)
  (global $n (mut i32) (i32.const 0))
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param $group i32) (param $payload i32) (result i64)
    ;; By the payload's length, since a trap discards the instance.
    (if (i32.and (local.get $payload) (i32.const 1)) (then (unreachable)))
    (i64.const 0)))
