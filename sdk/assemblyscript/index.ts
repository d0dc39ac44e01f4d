// The compiler resolves the import "edgerelay" to this file.
export * from "./assembly/index";
