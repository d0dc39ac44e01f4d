// Package layout holds the packages of the module to who may import whom. All of it is test code.
package layout
