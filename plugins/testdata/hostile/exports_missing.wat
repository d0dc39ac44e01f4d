;; It exports nothing of what it must, and one hook with a wrong type.
(module
  (func (export "ev_on_event") (param i32) (result i32) (i32.const 0)))
