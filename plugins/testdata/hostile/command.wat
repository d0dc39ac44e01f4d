;; A command, as a plain build for WASI gives, not a reactor.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
