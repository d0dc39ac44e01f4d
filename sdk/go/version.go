package edgerelay

// Version is the version of the SDK, as in the tag sdk/go/v0.3.0.
const Version = "0.3.0"
