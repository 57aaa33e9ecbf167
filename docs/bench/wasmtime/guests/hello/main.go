//go:build wasip1

// Hello is the least that a program does.
package main

import "fmt"

func main() { fmt.Println("hello") }
