;; It returns another part of its memory for each event, not always text.
(module
  (memory (export "memory") 480)
  (func (export "ev_abi_version") (result i32) (i32.const 1))
  (func (export "ev_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "ev_on_event") (param $g i32) (param $p i32) (result i64)
    (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 255))
    (i64.or (i64.shl (i64.const 8388608) (i64.const 32)) (i64.const 23068672))))
