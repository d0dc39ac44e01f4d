package edgerelay

// Version is the version of the SDK, as in the tag sdk/go/v0.2.0.
const Version = "0.2.0"
