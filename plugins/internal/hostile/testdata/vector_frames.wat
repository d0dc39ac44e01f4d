;; It recurses with large frames of vectors.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func $down (param v128 v128 v128 v128 v128 v128 v128 v128) (result v128)
    (i8x16.add (local.get 7) (call $down (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5)
      (local.get 6) (local.get 7) (i8x16.add (local.get 0) (local.get 1)))))
  (func (export "ev_on_event") (param i32 i32) (result i64) (local v128)
    (i64x2.extract_lane 0 (call $down (local.get 2) (local.get 2) (local.get 2) (local.get 2) (local.get 2) (local.get 2)
      (local.get 2) (local.get 2)))))
