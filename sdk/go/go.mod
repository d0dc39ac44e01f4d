module github.com/edgerelay/edgerelay/sdk/go

go 1.24
