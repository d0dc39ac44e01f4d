;; A plugin that passes each event after 100,000 dependent loads and stores in 16 MiB of memory, which miss the caches:
;; the most time that a unit of fuel can take.
(module
  (memory (export "memory") 400)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 8))
  (func (export "ev_on_event") (param i32 i32) (result i64)
    (local $left i32) (local $at i32)
    (local.set $left (i32.const 100000))
    (loop $round
      (i32.store offset=1048576 (i32.and (local.get $at) (i32.const 0xfffffc)) (i32.const 0))
      ;; The next address depends on the value at this one, which is always 0.
      (local.set $at
        (i32.and
          (i32.add
            (i32.add (i32.mul (local.get $at) (i32.const 1664525)) (i32.const 1013904223))
            (i32.load offset=1048576 (i32.and (local.get $at) (i32.const 0xfffffc))))
          (i32.const 0x7fffffff)))
      (br_if $round (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i64.const 0)))
