// Package layout tests which package of the module may import which other one. All of it is test code.
package layout
