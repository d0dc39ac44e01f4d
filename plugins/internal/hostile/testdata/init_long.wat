;; It takes most of its fuel to start, and traps at every event, so that each event needs another start.
(module
  (memory (export "memory") 1)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_init") (result i32) (local i32)
    (local.set 0 (i32.const 19000000))
    (loop (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (i32.const 0))
  (func (export "ev_on_event") (param i32 i32) (result i64) (unreachable)))
