// Command libextauthz is a dynamic module for Envoy: the decision of extauthz as an HTTP filter in Envoy's
// own process. Build it with cgo and -buildmode=c-shared, as `make module` does; any other build of it is a
// program that does nothing.
package main

func main() {}
