;; It runs the slowest vector instructions for ever.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local v128)
    (local.set 2 (v128.const i64x2 0x123456789abcdef 0xfedcba987654321))
    (loop
      (local.set 2 (i64x2.mul (i8x16.popcnt (local.get 2)) (i8x16.swizzle (local.get 2) (i64x2.mul (local.get 2) (local.get 2)))))
      (local.set 2 (i32x4.trunc_sat_f64x2_u_zero (f64x2.sqrt (f64x2.div (f64x2.convert_low_i32x4_u (local.get 2)) (v128.const f64x2 1.1 1.3)))))
      (br 0))
    (i64.const 0)))
