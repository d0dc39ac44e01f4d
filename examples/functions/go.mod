module github.com/edgerelay/edgerelay/examples/functions

go 1.24

require github.com/edgerelay/edgerelay/sdk/go v0.0.0

replace github.com/edgerelay/edgerelay/sdk/go => ../../sdk/go
