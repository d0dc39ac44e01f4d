;; Its on_subscribe takes long for each user, denies with a long reason, and names itself a class for each second one.
(module
  (memory (export "memory") 10)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_subscribe") (param i32) (result i64) (local i32)
    (loop (br_if 0 (i32.lt_u (local.tee 1 (i32.add (local.get 1) (i32.const 1))) (i32.const 900000))))
    (i64.const 0x0001000000080000)))
