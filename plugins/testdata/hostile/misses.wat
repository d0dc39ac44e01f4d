;; A chain of loads through 16 MiB, nearly each of which misses the caches: the dearest code for its fuel. A round costs
;; one unit, for 31 loads.
(module
  (memory (export "memory") 257)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 16777216))
  ;; Node i is at 64 i and holds the address of node (1664525 i + 1013904223) mod 2^18, so all nodes are on one cycle.
  (func (export "ev_init") (result i32) (local $i i32)
    (loop
      (i32.store (i32.shl (local.get $i) (i32.const 6))
        (i32.shl
          (i32.and
            (i32.add (i32.mul (local.get $i) (i32.const 1664525)) (i32.const 1013904223))
            (i32.const 0x3ffff))
          (i32.const 6)))
      (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 0x40000))))
    (i32.const 0))
  (func (export "ev_on_event") (param i32 i32) (result i64) (call $chase (i32.const 0)))
  (func (export "ev_on_subscribe") (param i32) (result i64) (call $chase (i32.const 0)))
  (func $chase (param i32) (result i64)
    (loop
      (local.set 0 (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (i32.load (local.get 0)))))))))))))))))))))))))))))))))
      (br 0))
    (i64.const 0)))
