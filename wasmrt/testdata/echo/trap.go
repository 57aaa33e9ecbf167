package main

// trap is written in assembly: Go turns every fault of its own into a panic.
func trap()
