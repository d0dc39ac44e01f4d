;; It multiplies and divides denormal numbers for ever.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local f64 f64)
    (local.set 2 (f64.const 0x1p-1040))
    (local.set 3 (f64.const 0x1.8p-1060))
    (loop
      (local.set 2 (f64.div (f64.mul (f64.add (local.get 2) (local.get 3)) (f64.const 0x1.2p-3)) (f64.const 0x1.1p-3)))
      (local.set 3 (f64.sqrt (f64.mul (f64.min (local.get 2) (local.get 3)) (f64.const 0x1.3p-1000))))
      (local.set 3 (f64.add (f64.const 0x1.8p-1060) (f64.mul (local.get 3) (f64.const 0x1p-1000))))
      (br 0))
    (i64.const 0)))
